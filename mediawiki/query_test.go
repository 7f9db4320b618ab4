package mediawiki_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"mediawiki.example/oauth2/mediawiki"
	"mediawiki.example/oauth2/mediawiki/mediawikitest"
)

func TestAgainstTheFakeWiki(t *testing.T) {
	wiki := mediawikitest.NewUnstartedServer()
	c, err := mediawiki.NewClient(wiki.APIURL(), mediawiki.Config{UserAgent: userAgent, HTTPClient: &http.Client{Transport: wiki.Transport()}})
	if err != nil {
		t.Fatal(err)
	}
	for _, title := range []string{"A", "B", "C"} {
		if err := c.PostWithToken(t.Context(), "csrf", mediawiki.Params{"action": "edit", "title": title, "text": "x"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	var titles []string
	for data, err := range c.Query(t.Context(), mediawiki.Params{"action": "query", "list": "allpages", "aplimit": 1}) {
		var answer struct {
			Query struct{ Allpages []struct{ Title string } }
		}
		if err == nil {
			err = json.Unmarshal(data, &answer)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range answer.Query.Allpages {
			titles = append(titles, p.Title)
		}
		if len(titles) == 3 {
			break
		}
	}
	if want := []string{"A", "B", "C"}; !reflect.DeepEqual(titles, want) {
		t.Errorf("titles %q, want %q", titles, want)
	}
	for _, err := range c.Query(t.Context(), mediawiki.Params{"action": "nonsense"}) {
		if !mediawiki.HasCode(err, "badvalue") {
			t.Error(err)
		}
	}
	user := c.As(c)
	if err := user.Get(t.Context(), mediawiki.Params{"action": "query", "assert": "user"}, nil); !mediawiki.HasCode(err, "assertuserfailed") || !strings.Contains(err.Error(), "Authorization header was lost") {
		t.Errorf("%v", err)
	}
	if user.APIURL() != c.APIURL() {
		t.Error("As has another wiki")
	}
	if err := c.REST(t.Context(), "GET", "/v1/nonsense", nil, nil, nil); !mediawiki.HasCode(err, "rest-no-match") {
		t.Error(err)
	}
}

// answers plays answers one after the other, and keeps the requests.
type answers struct {
	bodies []string
	got    []url.Values
}

func (a *answers) send(req *http.Request) (*http.Response, error) {
	got := req.URL.Query()
	if req.Body != nil {
		body, _ := io.ReadAll(req.Body)
		form, _ := url.ParseQuery(string(body))
		maps.Copy(got, form)
	}
	for _, name := range []string{"format", "formatversion", "errorformat"} {
		got.Del(name)
	}
	a.got = append(a.got, got)
	body := a.bodies[0]
	a.bodies = a.bodies[1:]
	return answer(200, body), nil
}

func TestContinuation(t *testing.T) {
	a := &answers{bodies: []string{
		`{"continue":{"gapcontinue":"B","n":123456789012345678,"continue":"gapcontinue||"}}`,
		`{"continue":{"rvcontinue":"7","continue":"||info"}}`,
		`{"batchcomplete":true}`,
	}}
	c := newClient(t, mediawiki.Config{}, a.send)
	n := 0
	for _, err := range c.Query(t.Context(), mediawiki.Params{"action": "query", "generator": "allpages", "n": 1}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; len(a.got) != n {
			t.Errorf("%d requests for %d answers", len(a.got), n)
		}
	}
	want := []string{
		"action=query&generator=allpages&n=1",
		"action=query&continue=gapcontinue%7C%7C&gapcontinue=B&generator=allpages&n=123456789012345678",
		"action=query&continue=%7C%7Cinfo&generator=allpages&n=1&rvcontinue=7",
	}
	for i, query := range a.got {
		if query.Encode() != want[i] {
			t.Errorf("request %d: %s, want %s", i, query.Encode(), want[i])
		}
	}
}

func TestContinuationEnds(t *testing.T) {
	const more = `{"continue":{"apcontinue":"B"}}`
	for _, test := range []struct {
		name   string
		bodies []string
		stop   int // after so many answers
		n      int
		want   string // of the error
	}{
		{"break", []string{more}, 1, 1, ""},
		{"error", []string{more, `{"errors":[{"code":"internal_api_error_X"}]}`}, 9, 1, "internal_api_error_X"},
		{"circle", []string{more, more}, 9, 2, "continue where it was"},
		{"nonsense", []string{`{"continue":7}`}, 9, 1, "continue with"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := &answers{bodies: test.bodies}
			c := newClient(t, mediawiki.Config{}, a.send)
			n, last := 0, error(nil)
			for _, err := range c.Query(t.Context(), nil) {
				if last = err; err != nil {
					continue // it ends by itself
				}
				if n++; n == test.stop {
					break
				}
			}
			if n != test.n || len(a.bodies) != 0 || (last == nil) != (test.want == "") || last != nil && !strings.Contains(last.Error(), test.want) {
				t.Errorf("%d answers, then %v; want %d, then %q", n, last, test.n, test.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := newClient(t, mediawiki.Config{}, func(req *http.Request) (*http.Response, error) {
		if err := req.Context().Err(); err != nil {
			return nil, err
		}
		return answer(200, more), nil
	})
	var last error
	for _, err := range c.Query(ctx, nil) {
		last = err
		cancel()
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("%v, want the context's end", last)
	}
}

func TestPostQuery(t *testing.T) {
	a := &answers{bodies: []string{
		`{"query":{"tokens":{"csrftoken":"T"}}}`,
		`{"continue":{"gapcontinue":"B","continue":"-||"},"purge":[{"title":"A"}]}`,
		`{"errors":[{"code":"badtoken"}]}`,
		`{"query":{"tokens":{"csrftoken":"U"}}}`,
		`{"batchcomplete":true,"purge":[{"title":"B"}]}`,
	}}
	c := newClient(t, mediawiki.Config{}, a.send)
	var all []string
	for data, err := range c.PostQuery(t.Context(), "csrf", mediawiki.Params{"action": "purge", "generator": "allpages"}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(data))
	}
	want := []string{
		"action=query&meta=tokens&type=csrf",
		"action=purge&generator=allpages&token=T",
		"action=purge&continue=-%7C%7C&gapcontinue=B&generator=allpages&token=T",
		"action=query&meta=tokens&type=csrf",
		"action=purge&continue=-%7C%7C&gapcontinue=B&generator=allpages&token=U",
	}
	for i, query := range a.got {
		if query.Encode() != want[i] {
			t.Errorf("request %d: %s, want %s", i, query.Encode(), want[i])
		}
	}
	if len(all) != 2 {
		t.Errorf("answers %q", all)
	}
	a = &answers{bodies: []string{`{"batchcomplete":true}`}}
	for _, err := range newClient(t, mediawiki.Config{}, a.send).PostQuery(t.Context(), "", mediawiki.Params{"action": "purge"}) {
		if err != nil || a.got[0].Has("token") {
			t.Errorf("without a token type: %v, %v", err, a.got)
		}
	}
}

func TestBatches(t *testing.T) {
	for _, test := range []struct {
		name   string
		bodies []string
		want   []string
	}{
		{"one answer a batch", []string{
			`{"batchcomplete":true,"continue":{"a":"1"},"query":{"allpages":[{"title":"A"}]}}`,
			`{"batchcomplete":true,"query":{"allpages":[{"title":"B"}]}}`,
		}, []string{
			`{"batchcomplete":true,"continue":{"a":"1"},"query":{"allpages":[{"title":"A"}]}}`,
			`{"batchcomplete":true,"query":{"allpages":[{"title":"B"}]}}`,
		}},
		{"pages of formatversion 2", []string{
			`{"continue":{"a":"1"},"query":{"normalized":[{"from":"a","to":"A"}],"pages":[{"pageid":1,"title":"A","links":[{"title":"X"}]},{"pageid":2,"title":"B"}]}}`,
			`{"continue":{"a":"2"},"query":{"normalized":[{"from":"a","to":"A"}],"pages":[{"pageid":1,"title":"A","links":[{"title":"Y"}],"length":12345678901234567890},{"title":"C","missing":true}]}}`,
			`{"batchcomplete":true,"continue":{"a":"3"},"query":{"normalized":[{"from":"a","to":"A"}],"pages":[{"title":"C","missing":true,"x":{"y":1}},{"n":1}]}}`,
			`{"batchcomplete":true,"query":{"pages":[{"pageid":3}]}}`,
		}, []string{
			`{"batchcomplete":true,"continue":{"a":"3"},"query":{"normalized":[{"from":"a","to":"A"}],"pages":[{"length":12345678901234567890,"links":[{"title":"X"},{"title":"Y"}],"pageid":1,"title":"A"},{"pageid":2,"title":"B"},{"missing":true,"title":"C","x":{"y":1}},{"n":1}]}}`,
			`{"batchcomplete":true,"query":{"pages":[{"pageid":3}]}}`,
		}},
		{"pages of formatversion 1", []string{
			`{"continue":{"a":"1"},"query":{"pages":{"1":{"title":"A","links":[{"title":"X"}]}}}}`,
			`{"batchcomplete":"","query":{"pages":{"1":{"title":"A","links":[{"title":"Y"}]},"2":{"title":"B"}}}}`,
		}, []string{
			`{"batchcomplete":"","query":{"pages":{"1":{"links":[{"title":"X"},{"title":"Y"}],"title":"A"},"2":{"title":"B"}}}}`,
		}},
		{"the last is not complete", []string{`{"continue":{"a":"1"},"query":{"x":[1]}}`, `{"query":{"x":[2]}}`}, []string{`{"query":{"x":[1,2]}}`}},
		{"kinds differ", []string{`{"continue":{"a":"1"},"x":[1],"y":{"a":1}}`, `{"batchcomplete":true,"x":{"b":2},"y":[1]}`}, []string{`{"batchcomplete":true,"x":{"b":2},"y":[1]}`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newClient(t, mediawiki.Config{}, (&answers{bodies: test.bodies}).send)
			var got []string
			for data, err := range mediawiki.Batches(c.Query(t.Context(), nil)) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, string(data))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
	c := newClient(t, mediawiki.Config{}, (&answers{bodies: []string{`{"continue":{"a":"1"}}`, `{"errors":[{"code":"x"}]}`}}).send)
	for data, err := range mediawiki.Batches(c.Query(t.Context(), nil)) {
		if data != nil || !mediawiki.HasCode(err, "x") {
			t.Errorf("%s, %v; want the error alone", data, err)
		}
	}
	c = newClient(t, mediawiki.Config{}, (&answers{bodies: []string{`{"batchcomplete":true,"continue":{"a":"1"}}`}}).send)
	for range mediawiki.Batches(c.Query(t.Context(), nil)) {
		break
	}
}
