package mediawiki_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"testing"

	"mediawiki.example/oauth2/mediawiki"
)

// pages is an answer with n pages.
func pages(n int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"batchcomplete":true,"continue":{"gapcontinue":"Zebra","continue":"gapcontinue||"},"query":{"pages":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"pageid":%d,"ns":0,"title":"The page with the number %d","contentmodel":"wikitext","pagelanguage":"en","touched":"2026-11-23T18:51:20Z","lastrevid":%d,"length":%d,"fullurl":"https://wiki.test/wiki/The_page_with_the_number_%d"}`, i, i, 1000+i, 5*i, i)
	}
	b.WriteString(`]}}`)
	return b.Bytes()
}

type pagesResult struct {
	Query struct {
		Pages []struct {
			PageID    int    `json:"pageid"`
			Title     string `json:"title"`
			Touched   string `json:"touched"`
			LastRevID int    `json:"lastrevid"`
			Length    int    `json:"length"`
			FullURL   string `json:"fullurl"`
		} `json:"pages"`
	} `json:"query"`
}

// BenchmarkDecode measures a whole Get, on a transport without a network,
// against a bare json.Unmarshal of the same body into the same struct. The bar
// is 0.9 of its speed.
func BenchmarkDecode(b *testing.B) {
	body := pages(500)
	b.Run("unmarshal", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		for b.Loop() {
			var result pagesResult
			if err := json.Unmarshal(body, &result); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("get", func(b *testing.B) {
		b.SetBytes(int64(len(body)))
		b.ReportAllocs()
		c := newClient(b, mediawiki.Config{}, func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{}, ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body))}, nil
		})
		for b.Loop() {
			var result pagesResult
			if err := c.Get(b.Context(), mediawiki.Params{"action": "query"}, &result); err != nil {
				b.Fatal(err)
			}
		}
	})
}
