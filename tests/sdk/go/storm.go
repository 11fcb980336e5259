package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/azcosmos"
)

// seen is the version of a document that a client read.
type seen struct {
	Etag   string `json:"etag"`
	Count  int    `json:"count"`
	Marker string `json:"marker"`
}

// attempt is one write that a client tried, and what it was told of it. Times are milliseconds since 1970.
type attempt struct {
	Writer   string `json:"writer"`
	Document string `json:"document"`
	Asked    int64  `json:"asked"`
	Read     seen   `json:"read"`
	Marker   string `json:"marker"`
	Began    int64  `json:"began"`
	Outcome  string `json:"outcome"`
	Status   int    `json:"status,omitempty"`
	Etag     string `json:"etag,omitempty"`
	Ended    int64  `json:"ended"`
}

// pause is how long a client lets a server alone that did not answer.
const pause = 20 * time.Millisecond

// storm is many clients that read documents and replace them if nobody else has, until standard input ends. The server is
// killed and started again meanwhile. It prints `ready` once every client has connected, and then a line of JSON for every
// write it tried: what it had read, what it wrote, and whether that was acknowledged, refused, or is unknown. It judges
// nothing. The JavaScript, Python and Rust programs beside it do the same.
func storm(endpoint, accountKey string, clients, documents int) {
	var over atomic.Bool
	lines := json.NewEncoder(os.Stdout)
	var printing sync.Mutex
	containers := make([]*azcosmos.ContainerClient, clients)
	for number := range containers {
		credential, err := azcosmos.NewKeyCredential(accountKey)
		must(err)
		client, err := azcosmos.NewClientWithKey(endpoint, credential, nil)
		must(err)
		containers[number], err = client.NewContainer("storm", "documents")
		must(err)
		_, err = containers[number].Read(context.Background(), nil)
		must(err)
	}
	fmt.Println("ready")
	var writers sync.WaitGroup
	for number, container := range containers {
		writers.Add(1)
		go func() {
			defer writers.Done()
			writer := fmt.Sprintf("go-%d", number)
			for count := 1; !over.Load(); count++ {
				made, ok := try(container, writer, count, documents)
				if ok {
					printing.Lock()
					must(lines.Encode(made))
					printing.Unlock()
				}
				if !ok || made.Outcome == "unknown" {
					time.Sleep(pause)
				}
			}
		}()
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	must(err)
	over.Store(true)
	writers.Wait()
}

// try reads a document and replaces it. It reports nothing when there was no answer to the read, which promises nothing.
func try(container *azcosmos.ContainerClient, writer string, number, documents int) (attempt, bool) {
	ctx := context.Background()
	id := fmt.Sprintf("d%d", rand.Intn(documents))
	made := attempt{Writer: writer, Document: id, Marker: fmt.Sprintf("%s-%d", writer, number), Asked: now()}
	response, err := container.ReadItem(ctx, key(id), id, nil)
	if err != nil {
		return made, false
	}
	must(json.Unmarshal(response.Value, &made.Read))
	made.Read.Etag = string(response.ETag)
	body, err := json.Marshal(map[string]any{
		"id": id, "pk": id, "count": made.Read.Count + 1, "marker": made.Marker, "previous": made.Read.Marker,
	})
	must(err)
	made.Began = now()
	written, err := container.ReplaceItem(ctx, key(id), id, body, &azcosmos.ItemOptions{IfMatchEtag: &response.ETag})
	made.Ended = now()
	var refused *azcore.ResponseError
	switch {
	case err == nil:
		made.Outcome, made.Etag = "acknowledged", string(written.ETag)
	case errors.As(err, &refused) && refused.StatusCode == http.StatusPreconditionFailed:
		made.Outcome = "refused"
	case refused != nil:
		made.Outcome, made.Status = "unknown", refused.StatusCode
	default:
		made.Outcome = "unknown"
	}
	return made, true
}

func now() int64 { return time.Now().UnixMilli() }
