import com.azure.cosmos.CosmosClient;
import com.azure.cosmos.CosmosClientBuilder;
import com.azure.cosmos.CosmosContainer;
import com.azure.cosmos.CosmosException;
import com.azure.cosmos.models.CosmosBatch;
import com.azure.cosmos.models.CosmosBatchItemRequestOptions;
import com.azure.cosmos.models.CosmosItemRequestOptions;
import com.azure.cosmos.models.CosmosItemResponse;
import com.azure.cosmos.models.CosmosPatchItemRequestOptions;
import com.azure.cosmos.models.CosmosPatchOperations;
import com.azure.cosmos.models.PartitionKey;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.function.Supplier;

/**
 * What the official Java SDK is answered, operation by condition: the cells of CONFORMANCE.md in its column.
 *
 * <p>usage: java Conformance ENDPOINT KEY. Prints one line a cell: operation, target, condition and status, with tabs
 * between them.
 */
public final class Conformance {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final PartitionKey KEY = new PartitionKey("p");

    private interface Operation {
        int run(String id, String ifMatch, String ifNoneMatch);
    }

    private static int status(Supplier<CosmosItemResponse<?>> call) {
        try {
            return call.get().getStatusCode();
        } catch (CosmosException error) {
            return error.getStatusCode();
        }
    }

    private static ObjectNode item(String id, int count) {
        return JSON.createObjectNode().put("id", id).put("pk", "p").put("n", count);
    }

    private static <T extends CosmosItemRequestOptions> T with(T options, String ifMatch, String ifNoneMatch) {
        options.setIfMatchETag(ifMatch);
        options.setIfNoneMatchETag(ifNoneMatch);
        return options;
    }

    private static CosmosItemRequestOptions options(String ifMatch, String ifNoneMatch) {
        return with(new CosmosItemRequestOptions(), ifMatch, ifNoneMatch);
    }

    private static CosmosBatchItemRequestOptions batchOptions(String ifMatch, String ifNoneMatch) {
        return new CosmosBatchItemRequestOptions().setIfMatchETag(ifMatch).setIfNoneMatchETag(ifNoneMatch);
    }

    public static void main(String[] arguments) {
        CosmosClient client = new CosmosClientBuilder()
                .endpoint(arguments[0])
                .key(arguments[1])
                .gatewayMode()
                .contentResponseOnWriteEnabled(true)
                .buildClient();
        client.createDatabaseIfNotExists("conformance");
        client.getDatabase("conformance").createContainerIfNotExists("java", "/pk");
        CosmosContainer container = client.getDatabase("conformance").getContainer("java");
        CosmosPatchOperations increment = CosmosPatchOperations.create().increment("/n", 1);

        Map<String, Operation> operations = new LinkedHashMap<>();
        operations.put("read", (id, match, none) ->
                status(() -> container.readItem(id, KEY, options(match, none), ObjectNode.class)));
        operations.put("create", (id, match, none) ->
                status(() -> container.createItem(item(id, 9), KEY, options(match, none))));
        operations.put("replace", (id, match, none) ->
                status(() -> container.replaceItem(item(id, 9), id, KEY, options(match, none))));
        operations.put("upsert", (id, match, none) ->
                status(() -> container.upsertItem(item(id, 9), KEY, options(match, none))));
        operations.put("patch", (id, match, none) -> status(() -> container.patchItem(
                id, KEY, increment, with(new CosmosPatchItemRequestOptions(), match, none), ObjectNode.class)));
        operations.put("delete", (id, match, none) ->
                status(() -> (CosmosItemResponse<?>) container.deleteItem(id, KEY, options(match, none))));
        operations.put("batch replace", (id, match, none) -> {
            CosmosBatch batch = CosmosBatch.createCosmosBatch(KEY);
            batch.replaceItemOperation(id, item(id, 9), batchOptions(match, none));
            return container.executeCosmosBatch(batch).getResults().get(0).getStatusCode();
        });
        operations.put("batch delete", (id, match, none) -> {
            CosmosBatch batch = CosmosBatch.createCosmosBatch(KEY);
            batch.deleteItemOperation(id, batchOptions(match, none));
            return container.executeCosmosBatch(batch).getResults().get(0).getStatusCode();
        });

        operations.forEach((name, operation) -> {
            for (String target : List.of("present", "absent")) {
                for (String condition : List.of("none", "If-Match: current", "If-Match: stale", "If-Match: *",
                        "If-None-Match: current", "If-None-Match: stale", "If-None-Match: *")) {
                    String which = condition.substring(condition.indexOf(':') + 1).trim();
                    if (target.equals("absent") && which.equals("current")
                            || name.startsWith("batch") && condition.startsWith("If-None")) {
                        continue;
                    }
                    String id = UUID.randomUUID().toString();
                    String stale = container.createItem(item(id, 1), KEY, null).getETag();
                    String current = container.replaceItem(item(id, 2), id, KEY, null).getETag();
                    if (target.equals("absent")) {
                        container.deleteItem(id, KEY, null);
                    }
                    String etag = Map.of("current", current, "stale", stale, "*", "*").get(which);
                    int status = condition.startsWith("If-None")
                            ? operation.run(id, null, etag)
                            : operation.run(id, etag, null);
                    System.out.println(String.join("\t", name, target, condition, String.valueOf(status)));
                }
            }
        });
        // The SDK's threads would keep the program alive.
        System.exit(0);
    }
}
