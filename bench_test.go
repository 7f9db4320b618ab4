package oauth2

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// still answers every request alike, and costs next to nothing.
type still struct{}

func (still) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: stillHeader, Body: io.NopCloser(strings.NewReader(`{"batchcomplete":true}`)), Request: req}, nil
}

var stillHeader = http.Header{"Content-Type": {"application/json; charset=utf-8"}}

// stillWiki is a session over it.
type stillWiki struct {
	*fakeWiki
	still
}

func (stillWiki) RoundTrip(req *http.Request) (*http.Response, error) { return still{}.RoundTrip(req) }
func (stillWiki) Do(req *http.Request) (*http.Response, error)        { return still{}.RoundTrip(req) }

// BenchmarkDo measures an authenticated Do against a bare http.Client.Do of the
// same request, with a cookie jar. The bar is three allocations and half a
// microsecond more.
func BenchmarkDo(b *testing.B) {
	wiki := newFakeWiki()
	s, err := NewSession(b.Context(), stillWiki{fakeWiki: wiki}, Client{AccessToken: NewSecret(strings.Repeat("x", 770))}, nil)
	if err != nil {
		b.Fatal(err)
	}
	jar := newJar()
	bare := &http.Client{Transport: still{}, Jar: jar}
	for _, request := range []struct{ name, url string }{
		{"rest", "https://wiki.test/w/rest.php/v1/page/A"},
		{"api with assert", "https://wiki.test/w/api.php?action=query&meta=userinfo&assert=user"},
		{"api", "https://wiki.test/w/api.php?action=query&meta=userinfo"},
	} {
		for _, client := range []struct {
			name string
			do   func(*http.Request) (*http.Response, error)
		}{{"bare", bare.Do}, {"session", s.Do}} {
			send := func(b *testing.B, req *http.Request) {
				resp, err := client.do(req)
				if err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			}
			newRequest := func(b *testing.B) *http.Request {
				req, err := http.NewRequestWithContext(context.Background(), "GET", request.url, nil)
				if err != nil {
					b.Fatal(err)
				}
				req.Header.Set("User-Agent", "benchmark")
				return req
			}
			b.Run(request.name+"/"+client.name, func(b *testing.B) {
				b.ReportAllocs()
				req := newRequest(b)
				for b.Loop() {
					send(b, req)
				}
			})
			b.Run(request.name+"/"+client.name+"/parallel", func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					req := newRequest(b)
					for pb.Next() {
						send(b, req)
					}
				})
			})
		}
	}
}

func BenchmarkAuthorizeURL(b *testing.B) {
	s := newTestSession(b, newFakeWiki(), nil)
	for b.Loop() {
		authorizeURL(b, s)
	}
}

// BenchmarkExchange is a whole login: pending, code, tokens.
func BenchmarkExchange(b *testing.B) {
	wiki := newFakeWiki()
	s := newTestSession(b, wiki, nil)
	for b.Loop() {
		login(b, s)
		wiki.log, wiki.forms = nil, nil
	}
}

func BenchmarkFileStore(b *testing.B) {
	s := newTestSession(b, newFakeWiki(), nil)
	login(b, s)
	data := s.Serialize()
	store := FileStore(filepath.Join(b.TempDir(), "session.json"))
	b.Run("save", func(b *testing.B) {
		for b.Loop() {
			if err := store.Save(b.Context(), data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			if _, err := store.Load(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("serialize", func(b *testing.B) {
		for b.Loop() {
			s.Serialize()
		}
	})
	b.Run("deserialize", func(b *testing.B) {
		for b.Loop() {
			if err := s.Deserialize(data); err != nil {
				b.Fatal(err)
			}
		}
	})
}
