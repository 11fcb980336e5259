import com.azure.cosmos.ConsistencyLevel;
import com.azure.cosmos.CosmosClient;
import com.azure.cosmos.CosmosClientBuilder;
import com.azure.cosmos.CosmosContainer;
import com.azure.cosmos.CosmosException;
import com.azure.cosmos.models.CosmosBatch;
import com.azure.cosmos.models.CosmosBatchResponse;
import com.azure.cosmos.models.CosmosBulkOperations;
import com.azure.cosmos.models.CosmosChangeFeedRequestOptions;
import com.azure.cosmos.models.CosmosItemOperation;
import com.azure.cosmos.models.CosmosItemRequestOptions;
import com.azure.cosmos.models.CosmosItemResponse;
import com.azure.cosmos.models.CosmosPatchItemRequestOptions;
import com.azure.cosmos.models.CosmosPatchOperations;
import com.azure.cosmos.models.CosmosQueryRequestOptions;
import com.azure.cosmos.models.FeedRange;
import com.azure.cosmos.models.FeedResponse;
import com.azure.cosmos.models.PartitionKey;
import com.azure.cosmos.models.SqlParameter;
import com.azure.cosmos.models.SqlQuerySpec;
import com.azure.cosmos.models.ThroughputProperties;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.function.Supplier;
import java.util.stream.IntStream;

/**
 * The official Java SDK, unmodified and in gateway mode, against a running server: what it must be answered.
 *
 * <p>usage: java Sdk ENDPOINT [KEY] (or the environment: COSMOS_ENDPOINT, COSMOS_KEY). Over clear text the SDK wants the
 * system property COSMOS.HTTP_CONNECTION_WITHOUT_TLS_ALLOWED=true.
 *
 * <p>Every check makes its own items, so that one failure explains one thing. The program prints one line a check and a
 * summary, and exits 1 unless every check passed.
 */
public final class Sdk {
    private static final String EMULATOR_KEY =
            "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==";
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final PartitionKey KEY = new PartitionKey("p");

    private static CosmosClient client;
    private static CosmosContainer container;
    private static int passed;
    private static int failed;

    private interface Check {
        void run();
    }

    private static void check(String name, Check check) {
        try {
            check.run();
            System.out.println("ok " + name);
            passed++;
        } catch (RuntimeException | AssertionError reason) {
            System.out.println("FAILED " + name + ": " + String.valueOf(reason.getMessage()).replace("\n", " | "));
            failed++;
        }
    }

    private static void equal(String what, Object actual, Object expected) {
        if (!Objects.equals(actual, expected)) {
            throw new AssertionError(what + ": expected " + expected + ", got " + actual);
        }
    }

    /** The status of a call, whether the SDK returned from it or threw. */
    private static int status(Supplier<CosmosItemResponse<?>> call) {
        try {
            return call.get().getStatusCode();
        } catch (CosmosException error) {
            return error.getStatusCode();
        }
    }

    private static ObjectNode item(String id, String key, int count) {
        return JSON.createObjectNode().put("id", id).put("pk", key).put("n", count);
    }

    private static CosmosItemRequestOptions ifMatch(String etag) {
        return new CosmosItemRequestOptions().setIfMatchETag(etag);
    }

    private static CosmosItemResponse<ObjectNode> create(String id, int count) {
        return container.createItem(item(id, "p", count), KEY, null);
    }

    private static JsonNode read(String id) {
        return container.readItem(id, KEY, ObjectNode.class).getItem();
    }

    private static void createAndRead() {
        CosmosItemResponse<ObjectNode> made = create("read", 1);
        equal("status", made.getStatusCode(), 201);
        JsonNode read = read("read");
        equal("count", read.get("n").asInt(), 1);
        equal("etag", read.get("_etag").asText(), made.getETag());
        equal("second create", status(() -> create("read", 2)), 409);
        equal("absent", status(() -> container.readItem("absent", KEY, ObjectNode.class)), 404);
    }

    private static void readOfTheSameVersionIsNotModified() {
        String etag = create("unmodified", 1).getETag();
        CosmosItemRequestOptions same = new CosmosItemRequestOptions().setIfNoneMatchETag(etag);
        equal("same etag", status(() -> container.readItem("unmodified", KEY, same, ObjectNode.class)), 304);
        CosmosItemRequestOptions other = new CosmosItemRequestOptions().setIfNoneMatchETag("\"another\"");
        equal("another etag", status(() -> container.readItem("unmodified", KEY, other, ObjectNode.class)), 200);
    }

    private static void staleEtagIsRefused() {
        String first = create("stale", 1).getETag();
        equal("current", status(() -> container.replaceItem(item("stale", "p", 2), "stale", KEY, ifMatch(first))), 200);
        equal("stale", status(() -> container.replaceItem(item("stale", "p", 9), "stale", KEY, ifMatch(first))), 412);
        equal("count", read("stale").get("n").asInt(), 2);
        equal("stale delete", status(() -> container.deleteItem("stale", KEY, ifMatch(first))), 412);
        String current = read("stale").get("_etag").asText();
        equal("delete", status(() -> container.deleteItem("stale", KEY, ifMatch(current))), 204);
        equal("deleted", status(() -> container.readItem("stale", KEY, ObjectNode.class)), 404);
    }

    private static void upsertMakesAndReplaces() {
        equal("first", status(() -> container.upsertItem(item("upsert", "p", 1), KEY, null)), 201);
        equal("second", status(() -> container.upsertItem(item("upsert", "p", 2), KEY, null)), 200);
        equal("stale", status(() -> container.upsertItem(item("upsert", "p", 9), KEY, ifMatch("\"another\""))), 412);
        equal("count", read("upsert").get("n").asInt(), 2);
    }

    private static void patchChangesOneMember() {
        create("patch", 1);
        CosmosPatchOperations operations = CosmosPatchOperations.create().increment("/n", 41).set("/name", "x");
        equal("patch", status(() -> container.patchItem("patch", KEY, operations, ObjectNode.class)), 200);
        equal("count", read("patch").get("n").asInt(), 42);
        CosmosPatchItemRequestOptions condition = new CosmosPatchItemRequestOptions();
        condition.setFilterPredicate("from c where c.n = 7");
        equal("condition", status(() -> container.patchItem("patch", KEY, operations, condition, ObjectNode.class)), 412);
    }

    private static void batchIsAllOrNothing() {
        create("batch", 1);
        CosmosBatch refused = CosmosBatch.createCosmosBatch(KEY);
        refused.createItemOperation(item("batch-new", "p", 1));
        refused.createItemOperation(item("batch", "p", 1));
        CosmosBatchResponse answer = container.executeCosmosBatch(refused);
        equal("success", answer.isSuccessStatusCode(), false);
        equal("first", answer.getResults().get(0).getStatusCode(), 424);
        equal("second", answer.getResults().get(1).getStatusCode(), 409);
        equal("undone", status(() -> container.readItem("batch-new", KEY, ObjectNode.class)), 404);

        CosmosBatch done = CosmosBatch.createCosmosBatch(KEY);
        done.createItemOperation(item("batch-new", "p", 5));
        done.readItemOperation("batch-new");
        done.deleteItemOperation("batch");
        answer = container.executeCosmosBatch(done);
        equal("success", answer.isSuccessStatusCode(), true);
        equal("seen", answer.getResults().get(1).getItem(ObjectNode.class).get("n").asInt(), 5);
        equal("deleted", status(() -> container.readItem("batch", KEY, ObjectNode.class)), 404);
    }

    /** Twenty items in a container with two partition key ranges, which the SDK reads each for itself. */
    private static void queriesMergeRanges() {
        client.getDatabase("java").createContainer("wide", "/pk");
        client.getDatabase("java").getContainer("wide").delete();
        ThroughputProperties throughput = ThroughputProperties.createManualThroughput(11_000);
        client.getDatabase("java").createContainer("wide", "/pk", throughput);
        CosmosContainer wide = client.getDatabase("java").getContainer("wide");
        List<FeedRange> ranges = wide.getFeedRanges();
        equal("ranges", ranges.size(), 2);
        List<CosmosItemOperation> operations = new ArrayList<>();
        IntStream.range(0, 20)
                .mapToObj(n -> item("i" + n, "p" + n, n))
                .forEach(item -> operations.add(CosmosBulkOperations.getCreateItemOperation(
                        item, new PartitionKey(item.get("pk").asText()))));
        wide.executeBulkOperations(operations).forEach(done -> equal("bulk", done.getResponse().getStatusCode(), 201));

        equal("filter", query(wide, "SELECT VALUE c.n FROM c WHERE c.n >= @least", 15), "[15,16,17,18,19]");
        equal("order", query(wide, "SELECT VALUE c.n FROM c WHERE c.n >= @least ORDER BY c.n DESC", 17), "[19,18,17]");
        equal("count", query(wide, "SELECT VALUE COUNT(1) FROM c WHERE c.n >= @least", 5), "[15]");
        equal("top", query(wide, "SELECT TOP 2 VALUE c.n FROM c WHERE c.n >= @least ORDER BY c.n", 3), "[3,4]");
        equal("page", query(wide, "SELECT VALUE c.n FROM c WHERE c.n >= @least ORDER BY c.n OFFSET 2 LIMIT 2", 3), "[5,6]");

        int changes = 0;
        for (FeedRange range : ranges) {
            CosmosChangeFeedRequestOptions options =
                    CosmosChangeFeedRequestOptions.createForProcessingFromBeginning(range).setMaxItemCount(7);
            for (FeedResponse<JsonNode> page : wide.queryChangeFeed(options, JsonNode.class).iterableByPage()) {
                changes += page.getResults().size();
                if (page.getResults().isEmpty()) {
                    break;
                }
            }
        }
        equal("changes", changes, 20);
    }

    private static String query(CosmosContainer from, String text, int least) {
        SqlQuerySpec spec = new SqlQuerySpec(text, new SqlParameter("@least", least));
        List<Integer> found = new ArrayList<>();
        from.queryItems(spec, new CosmosQueryRequestOptions(), Integer.class).forEach(found::add);
        if (!text.contains("ORDER BY")) {
            found.sort(null);
        }
        return found.toString().replace(" ", "");
    }

    private static void queryOfOnePartitionKeyHasPages() {
        for (int n = 0; n < 5; n++) {
            container.createItem(item("q" + n, "query", n));
        }
        CosmosQueryRequestOptions options = new CosmosQueryRequestOptions().setPartitionKey(new PartitionKey("query"));
        List<Integer> sizes = new ArrayList<>();
        container.queryItems("SELECT * FROM c WHERE c.n > 0", options, ObjectNode.class)
                .iterableByPage(2)
                .forEach(page -> sizes.add(page.getResults().size()));
        equal("pages", sizes, List.of(2, 2));
    }

    private static void connect(String endpoint, String key) {
        client = new CosmosClientBuilder()
                .endpoint(endpoint)
                .key(key)
                .gatewayMode()
                .consistencyLevel(ConsistencyLevel.SESSION)
                .contentResponseOnWriteEnabled(true)
                .buildClient();
        client.createDatabaseIfNotExists("java");
        client.getDatabase("java").createContainerIfNotExists("c", "/pk");
        container = client.getDatabase("java").getContainer("c");
    }

    private static String argument(String[] arguments, int position, String variable, String otherwise) {
        if (arguments.length > position) {
            return arguments[position];
        }
        String value = System.getenv(variable);
        return value == null ? otherwise : value;
    }

    public static void main(String[] arguments) {
        String endpoint = argument(arguments, 0, "COSMOS_ENDPOINT", "http://127.0.0.1:8081");
        check("connect", () -> connect(endpoint, argument(arguments, 1, "COSMOS_KEY", EMULATOR_KEY)));
        if (failed == 0) {
            check("create_and_read", Sdk::createAndRead);
            check("read_of_the_same_version_is_not_modified", Sdk::readOfTheSameVersionIsNotModified);
            check("stale_etag_is_refused", Sdk::staleEtagIsRefused);
            check("upsert_makes_and_replaces", Sdk::upsertMakesAndReplaces);
            check("patch_changes_one_member", Sdk::patchChangesOneMember);
            check("batch_is_all_or_nothing", Sdk::batchIsAllOrNothing);
            check("query_of_one_partition_key_has_pages", Sdk::queryOfOnePartitionKeyHasPages);
            check("queries_merge_ranges", Sdk::queriesMergeRanges);
        }
        System.out.println("sdk java: " + passed + " passed, " + failed + " failed");
        // The SDK's threads would keep the program alive.
        System.exit(failed == 0 ? 0 : 1);
    }
}
