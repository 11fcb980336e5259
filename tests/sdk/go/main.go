// The official Go SDK, unmodified, against a running server: what it must be answered.
//
// usage: sdk-go ENDPOINT [KEY]      (or the environment: COSMOS_ENDPOINT, COSMOS_KEY)
//
//	sdk-go ENDPOINT KEY conformance      prints the cells of CONFORMANCE.md instead
//	sdk-go ENDPOINT KEY storm CLIENTS DOCUMENTS      is one part of the storm
//
// Every check makes its own items, so that one failure explains one thing. The program prints one line a check and a
// summary, and exits 1 unless every check passed. The programs beside it make the same checks, and more, in the other
// languages; here is what the SDK offers of create, read, 304, replace, stale etags, upsert, delete, patch, batch, query.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/data/azcosmos"
)

const emulatorKey = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw=="

// item is what the checks store.
type item struct {
	ID    string `json:"id"`
	Key   string `json:"pk"`
	Count int    `json:"n"`
	Etag  string `json:"_etag,omitempty"`
}

func (i item) json() []byte {
	text, err := json.Marshal(i)
	must(err)
	return text
}

// failure is what a check panics with; run turns it into a line.
type failure struct{ text string }

func must(err error) {
	if err != nil {
		panic(failure{err.Error()})
	}
}

func equal[T comparable](what string, actual, expected T) {
	if actual != expected {
		panic(failure{fmt.Sprintf("%s: expected %v, got %v", what, expected, actual)})
	}
}

// status is the HTTP status of a call, whether it succeeded or not.
func status(response azcosmos.Response, err error) int {
	var refused *azcore.ResponseError
	if errors.As(err, &refused) {
		return refused.StatusCode
	}
	must(err)
	return response.RawResponse.StatusCode
}

func itemStatus(response azcosmos.ItemResponse, err error) int { return status(response.Response, err) }

// addHeader is a pipeline step that sends one header more: the SDK has no option for If-None-Match.
type addHeader struct{ name, value string }

func (h *addHeader) Do(request *policy.Request) (*http.Response, error) {
	if h.value != "" && request.Raw().Method == http.MethodGet {
		request.Raw().Header.Set(h.name, h.value)
	}
	return request.Next()
}

type scene struct {
	ctx         context.Context
	client      *azcosmos.Client
	container   *azcosmos.ContainerClient
	ifNoneMatch *addHeader
}

func key(name string) azcosmos.PartitionKey { return azcosmos.NewPartitionKeyString(name) }

func (s *scene) create(id string, count int) azcosmos.ItemResponse {
	made, err := s.container.CreateItem(s.ctx, key("p"), item{ID: id, Key: "p", Count: count}.json(),
		&azcosmos.ItemOptions{EnableContentResponseOnWrite: true})
	must(err)
	return made
}

func (s *scene) read(id string) item {
	response, err := s.container.ReadItem(s.ctx, key("p"), id, nil)
	must(err)
	var read item
	must(json.Unmarshal(response.Value, &read))
	return read
}

func createAndRead(s *scene) {
	made := s.create("read", 1)
	equal("status", made.RawResponse.StatusCode, http.StatusCreated)
	read := s.read("read")
	equal("count", read.Count, 1)
	equal("etag", read.Etag, string(made.ETag))
	again := itemStatus(s.container.CreateItem(s.ctx, key("p"), item{ID: "read", Key: "p"}.json(), nil))
	equal("second create", again, http.StatusConflict)
	equal("absent", itemStatus(s.container.ReadItem(s.ctx, key("p"), "absent", nil)), http.StatusNotFound)
}

func readOfTheSameVersionIsNotModified(s *scene) {
	made := s.create("unmodified", 1)
	s.ifNoneMatch.value = string(made.ETag)
	defer func() { s.ifNoneMatch.value = "" }()
	// The SDK takes every status but 200 for a failure; the answer is there all the same.
	equal("same etag", itemStatus(s.container.ReadItem(s.ctx, key("p"), "unmodified", nil)), http.StatusNotModified)
	s.ifNoneMatch.value = "\"another\""
	equal("another etag", itemStatus(s.container.ReadItem(s.ctx, key("p"), "unmodified", nil)), http.StatusOK)
}

func staleEtagIsRefused(s *scene) {
	first := s.create("stale", 1).ETag
	replace := func(count int, etag azcore.ETag) int {
		body := item{ID: "stale", Key: "p", Count: count}.json()
		return itemStatus(s.container.ReplaceItem(s.ctx, key("p"), "stale", body, &azcosmos.ItemOptions{IfMatchEtag: &etag}))
	}
	equal("current etag", replace(2, first), http.StatusOK)
	equal("stale etag", replace(9, first), http.StatusPreconditionFailed)
	equal("count", s.read("stale").Count, 2)
	remove := func(etag azcore.ETag) int {
		return itemStatus(s.container.DeleteItem(s.ctx, key("p"), "stale", &azcosmos.ItemOptions{IfMatchEtag: &etag}))
	}
	equal("stale delete", remove(first), http.StatusPreconditionFailed)
	equal("delete", remove(azcore.ETag(s.read("stale").Etag)), http.StatusNoContent)
	equal("deleted", itemStatus(s.container.ReadItem(s.ctx, key("p"), "stale", nil)), http.StatusNotFound)
}

func upsertMakesAndReplaces(s *scene) {
	upsert := func(count int, options *azcosmos.ItemOptions) int {
		body := item{ID: "upsert", Key: "p", Count: count}.json()
		return itemStatus(s.container.UpsertItem(s.ctx, key("p"), body, options))
	}
	equal("first", upsert(1, nil), http.StatusCreated)
	equal("second", upsert(2, nil), http.StatusOK)
	stale := azcore.ETag("\"another\"")
	equal("stale", upsert(9, &azcosmos.ItemOptions{IfMatchEtag: &stale}), http.StatusPreconditionFailed)
	equal("count", s.read("upsert").Count, 2)
}

func patchChangesOneMember(s *scene) {
	s.create("patch", 1)
	operations := azcosmos.PatchOperations{}
	operations.AppendIncrement("/n", 41)
	equal("patch", itemStatus(s.container.PatchItem(s.ctx, key("p"), "patch", operations, nil)), http.StatusOK)
	equal("count", s.read("patch").Count, 42)
	operations.SetCondition("from c where c.n = 7")
	equal("condition", itemStatus(s.container.PatchItem(s.ctx, key("p"), "patch", operations, nil)),
		http.StatusPreconditionFailed)
}

func batchIsAllOrNothing(s *scene) {
	s.create("batch", 1)
	batch := s.container.NewTransactionalBatch(key("p"))
	batch.CreateItem(item{ID: "batch-new", Key: "p"}.json(), nil)
	batch.CreateItem(item{ID: "batch", Key: "p"}.json(), nil)
	refused, err := s.container.ExecuteTransactionalBatch(s.ctx, batch, nil)
	must(err)
	equal("success", refused.Success, false)
	equal("first", refused.OperationResults[0].StatusCode, http.StatusFailedDependency)
	equal("second", refused.OperationResults[1].StatusCode, http.StatusConflict)
	equal("undone", itemStatus(s.container.ReadItem(s.ctx, key("p"), "batch-new", nil)), http.StatusNotFound)

	batch = s.container.NewTransactionalBatch(key("p"))
	batch.CreateItem(item{ID: "batch-new", Key: "p", Count: 5}.json(), nil)
	batch.ReadItem("batch-new", nil)
	batch.DeleteItem("batch", nil)
	done, err := s.container.ExecuteTransactionalBatch(s.ctx, batch, nil)
	must(err)
	equal("success", done.Success, true)
	var read item
	must(json.Unmarshal(done.OperationResults[1].ResourceBody, &read))
	equal("later operations see earlier ones", read.Count, 5)
	equal("deleted", itemStatus(s.container.ReadItem(s.ctx, key("p"), "batch", nil)), http.StatusNotFound)
}

func queryReadsPages(s *scene) {
	for _, id := range []string{"q1", "q2", "q3", "q4", "q5"} {
		_, err := s.container.CreateItem(s.ctx, key("query"), item{ID: id, Key: "query", Count: len(id)}.json(), nil)
		must(err)
	}
	options := &azcosmos.QueryOptions{
		PageSizeHint:    2,
		QueryParameters: []azcosmos.QueryParameter{{Name: "@id", Value: "q2"}},
	}
	pager := s.container.NewQueryItemsPager("SELECT * FROM c WHERE c.id >= @id", key("query"), options)
	var found []string
	pages := 0
	for pager.More() {
		page, err := pager.NextPage(s.ctx)
		must(err)
		pages++
		for _, text := range page.Items {
			var one item
			must(json.Unmarshal(text, &one))
			found = append(found, one.ID)
		}
	}
	sort.Strings(found)
	equal("found", strings.Join(found, " "), "q2 q3 q4 q5")
	equal("pages", pages, 2)
}

func databasesAndContainersAreListed(s *scene) {
	pager := s.client.NewQueryDatabasesPager("SELECT * FROM root r WHERE r.id = 'go'", nil)
	page, err := pager.NextPage(s.ctx)
	must(err)
	equal("databases", len(page.Databases), 1)
	read, err := s.container.Read(s.ctx, nil)
	must(err)
	equal("path", read.ContainerProperties.PartitionKeyDefinition.Paths[0], "/pk")
	throughput, err := s.container.ReadThroughput(s.ctx, nil)
	must(err)
	amount, _ := throughput.ThroughputProperties.ManualThroughput()
	equal("throughput", amount, 400)
}

// run makes one check and prints its line.
func run(name string, s *scene, check func(*scene)) (passed bool) {
	defer func() {
		if caught := recover(); caught != nil {
			why, ok := caught.(failure)
			if !ok {
				panic(caught)
			}
			fmt.Printf("FAILED %s: %s\n", name, strings.ReplaceAll(why.text, "\n", " | "))
			passed = false
		}
	}()
	check(s)
	fmt.Println("ok " + name)
	return true
}

func connect(endpoint, accountKey string) *scene {
	credential, err := azcosmos.NewKeyCredential(accountKey)
	must(err)
	header := &addHeader{name: "If-None-Match"}
	options := &azcosmos.ClientOptions{}
	options.PerCallPolicies = []policy.Policy{header}
	client, err := azcosmos.NewClientWithKey(endpoint, credential, options)
	must(err)
	// Whoever runs this program limits its time.
	ctx := context.Background()
	_, err = client.CreateDatabase(ctx, azcosmos.DatabaseProperties{ID: "go"}, nil)
	must(err)
	database, err := client.NewDatabase("go")
	must(err)
	_, err = database.CreateContainer(ctx, azcosmos.ContainerProperties{
		ID:                     "c",
		PartitionKeyDefinition: azcosmos.PartitionKeyDefinition{Paths: []string{"/pk"}, Version: 2},
	}, nil)
	must(err)
	container, err := database.NewContainer("c")
	must(err)
	return &scene{ctx, client, container, header}
}

func argument(position int, variable, otherwise string) string {
	if len(os.Args) > position {
		return os.Args[position]
	}
	if value := os.Getenv(variable); value != "" {
		return value
	}
	return otherwise
}

func main() {
	endpoint := argument(1, "COSMOS_ENDPOINT", "http://127.0.0.1:8081")
	if len(os.Args) == 6 && os.Args[3] == "storm" {
		clients, err := strconv.Atoi(os.Args[4])
		must(err)
		documents, err := strconv.Atoi(os.Args[5])
		must(err)
		storm(endpoint, os.Args[2], clients, documents)
		return
	}
	var s *scene
	passed, failed := 0, 0
	count := func(ok bool) {
		if ok {
			passed++
		} else {
			failed++
		}
	}
	connected := run("connect", nil, func(*scene) { s = connect(endpoint, argument(2, "COSMOS_KEY", emulatorKey)) })
	if connected && len(os.Args) > 3 && os.Args[3] == "conformance" {
		conformance(s)
		return
	}
	count(connected)
	if connected {
		count(run("create_and_read", s, createAndRead))
		count(run("read_of_the_same_version_is_not_modified", s, readOfTheSameVersionIsNotModified))
		count(run("stale_etag_is_refused", s, staleEtagIsRefused))
		count(run("upsert_makes_and_replaces", s, upsertMakesAndReplaces))
		count(run("patch_changes_one_member", s, patchChangesOneMember))
		count(run("batch_is_all_or_nothing", s, batchIsAllOrNothing))
		count(run("query_reads_pages", s, queryReadsPages))
		count(run("databases_and_containers_are_listed", s, databasesAndContainersAreListed))
	}
	fmt.Printf("sdk go: %d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
