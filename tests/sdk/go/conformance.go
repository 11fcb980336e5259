package main

import (
	"fmt"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/data/azcosmos"
)

// conformance prints what the SDK is answered, operation by condition: the cells of CONFORMANCE.md in its column. One line
// a cell: operation, target, condition and status, with tabs between them. The SDK has no option for If-None-Match.
func conformance(s *scene) {
	body := func(id string, count int) []byte { return item{ID: id, Key: "p", Count: count}.json() }
	options := func(etag *azcore.ETag) *azcosmos.ItemOptions { return &azcosmos.ItemOptions{IfMatchEtag: etag} }
	batched := func(add func(*azcosmos.TransactionalBatch)) int {
		batch := s.container.NewTransactionalBatch(key("p"))
		add(&batch)
		done, err := s.container.ExecuteTransactionalBatch(s.ctx, batch, nil)
		must(err)
		return int(done.OperationResults[0].StatusCode)
	}
	increment := azcosmos.PatchOperations{}
	increment.AppendIncrement("/n", 1)
	operations := []struct {
		name string
		run  func(id string, etag *azcore.ETag) int
	}{
		{"read", func(id string, etag *azcore.ETag) int {
			return itemStatus(s.container.ReadItem(s.ctx, key("p"), id, options(etag)))
		}},
		{"create", func(id string, etag *azcore.ETag) int {
			return itemStatus(s.container.CreateItem(s.ctx, key("p"), body(id, 9), options(etag)))
		}},
		{"replace", func(id string, etag *azcore.ETag) int {
			return itemStatus(s.container.ReplaceItem(s.ctx, key("p"), id, body(id, 9), options(etag)))
		}},
		{"upsert", func(id string, etag *azcore.ETag) int {
			return itemStatus(s.container.UpsertItem(s.ctx, key("p"), body(id, 9), options(etag)))
		}},
		{"patch", func(id string, etag *azcore.ETag) int {
			return itemStatus(s.container.PatchItem(s.ctx, key("p"), id, increment, options(etag)))
		}},
		{"delete", func(id string, etag *azcore.ETag) int {
			return itemStatus(s.container.DeleteItem(s.ctx, key("p"), id, options(etag)))
		}},
		{"batch replace", func(id string, etag *azcore.ETag) int {
			return batched(func(b *azcosmos.TransactionalBatch) {
				b.ReplaceItem(id, body(id, 9), &azcosmos.TransactionalBatchItemOptions{IfMatchETag: etag})
			})
		}},
		{"batch delete", func(id string, etag *azcore.ETag) int {
			return batched(func(b *azcosmos.TransactionalBatch) {
				b.DeleteItem(id, &azcosmos.TransactionalBatchItemOptions{IfMatchETag: etag})
			})
		}},
	}
	count := 0
	for _, operation := range operations {
		for _, target := range []string{"present", "absent"} {
			for _, condition := range []string{"none", "If-Match: current", "If-Match: stale", "If-Match: *"} {
				if target == "absent" && condition == "If-Match: current" {
					continue
				}
				count++
				id := fmt.Sprintf("c%d", count)
				stale := s.create(id, 1).ETag
				replaced, err := s.container.ReplaceItem(s.ctx, key("p"), id, body(id, 2), nil)
				must(err)
				if target == "absent" {
					_, err = s.container.DeleteItem(s.ctx, key("p"), id, nil)
					must(err)
				}
				star := azcore.ETagAny
				etag := map[string]*azcore.ETag{
					"If-Match: current": &replaced.ETag, "If-Match: stale": &stale, "If-Match: *": &star,
				}[condition]
				fmt.Printf("%s\t%s\t%s\t%d\n", operation.name, target, condition, operation.run(id, etag))
			}
		}
	}
}
