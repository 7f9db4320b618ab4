package mediawiki_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"mediawiki.example/oauth2/mediawiki"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestAnswersOfOthers(t *testing.T) {
	for _, test := range []struct {
		resp *http.Response
		want string
	}{
		{answer(502, "<h1>Bad Gateway</h1>", "Content-Type", "text/html"), "502 Bad Gateway, 20 bytes of text/html"},
		{answer(200, `{"query":{`), "not whole"},
		{answer(200, ``), "0 bytes"},
		{answer(200, `null`), "not whole"},
		{answer(404, `{}`), "404 Not Found"},
		{answer(200, `{"a":1}}`), "not whole"},
		{answer(200, `{"a":tru}`), "not whole"},
		{answer(200, `<br>{"a":1}`), "not whole"},
		{answer(200, `{}`, "MediaWiki-API-Error", "x"), " x"},
		{answer(200, `{"a":"`+strings.Repeat("x", 2000)+`"}`), "more than 1000 bytes"},
	} {
		c := newClient(t, mediawiki.Config{MaxAnswer: 1000}, func(*http.Request) (*http.Response, error) { return test.resp, nil })
		if err := c.Get(t.Context(), nil, nil); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want %q", err, test.want)
		}
	}
	c := newClient(t, mediawiki.Config{}, func(*http.Request) (*http.Response, error) { return nil, errors.New("unreachable") })
	if err := c.Get(t.Context(), mediawiki.Params{"a": "HIDDEN"}, nil); err == nil || strings.Contains(err.Error(), "HIDDEN") || !strings.Contains(err.Error(), "unreachable") {
		t.Errorf("a dead network: %v", err)
	}
	if err := c.REST(t.Context(), "GET", "/a", nil, nil, nil); err == nil {
		t.Error("a dead network: no error")
	}
}

// TestRecordings holds what the client makes of the recordings against golden
// files: a new case is a new file.
func TestRecordings(t *testing.T) {
	files, err := filepath.Glob("../testdata/wire/*.json")
	if err != nil || len(files) < 87 {
		t.Fatal(len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if !strings.HasPrefix(name, "api-") && !strings.HasPrefix(name, "rest-") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var r struct {
				Request  struct{ Path string }
				Response struct {
					Status int
					Header map[string]string
					Body   json.RawMessage
				}
			}
			if err := json.Unmarshal(data, &r); err != nil {
				t.Fatal(err)
			}
			var got struct {
				Error    string
				Errors   []mediawiki.ErrorDetail
				Warnings []mediawiki.Warning
				Result   map[string]any
			}
			c := newClient(t, mediawiki.Config{RetryBudget: -1, OnWarning: func(w mediawiki.Warning) { got.Warnings = append(got.Warnings, w) }}, func(*http.Request) (*http.Response, error) {
				resp := answer(r.Response.Status, string(r.Response.Body))
				for name, value := range r.Response.Header {
					resp.Header.Set(name, value)
				}
				return resp, nil
			})
			if r.Request.Path == "/api.php" {
				err = c.Get(t.Context(), nil, &got.Result)
			} else {
				err = c.REST(t.Context(), "GET", "/", nil, nil, &got.Result)
			}
			if err != nil {
				got.Error = err.Error()
			}
			var e *mediawiki.APIError
			if errors.As(err, &e) {
				got.Errors = e.Errors
				if !mediawiki.HasCode(err, e.Errors[0].Code) || mediawiki.HasCode(err, "other") {
					t.Error("HasCode is wrong")
				}
			}
			text, err := json.MarshalIndent(got, "", "\t")
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".golden")
			if *update {
				os.MkdirAll("testdata", 0o755)
				if err := os.WriteFile(golden, append(text, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || string(want) != string(text)+"\n" {
				t.Errorf("%v\ngot %s\nwant %s", err, text, want)
			}
		})
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"errors":[{"code":"a","text":"b"}],"warnings":{"main":{"warnings":"c"}},"continue":{"a":1}}`))
	f.Add([]byte(`{"error":{"code":"a","info":"b","lag":1}}`))
	f.Add([]byte(` { "a\\\"" : "\\\\" , "\u0065rror" : [ { "]" : "}" } ] } `))
	f.Fuzz(func(t *testing.T, body []byte) {
		c := newClient(t, mediawiki.Config{OnWarning: func(mediawiki.Warning) {}}, func(*http.Request) (*http.Response, error) { return answer(200, string(body)), nil })
		var result map[string]json.RawMessage
		err := c.Get(t.Context(), nil, &result)
		var want map[string]json.RawMessage
		isObject := json.Unmarshal(body, &want) == nil && want != nil
		hasError := want["error"] != nil && string(want["error"]) != "null" || len(want["errors"]) > 2 // more than []
		switch {
		case err == nil && !isObject:
			t.Errorf("what is no object is taken for a result: %s", body)
		case err == nil && hasError && json.Unmarshal(want["errors"], new([]struct{})) == nil:
			t.Errorf("an error is taken for a result: %s", body)
		case err == nil && !reflect.DeepEqual(result, want):
			t.Errorf("%s\nis decoded as %s", body, result)
		case err != nil && isObject && !hasError:
			t.Errorf("%s: %v", body, err)
		}
	})
}

// TestErrorFormats has one error in every form that an API has for it
// (https://www.mediawiki.org/wiki/API:Errors_and_warnings).
func TestErrorFormats(t *testing.T) {
	for _, test := range []struct{ name, body, text, data string }{
		{"bc", `{"error":{"code":"c","info":"t","lag":3,"docref":"d"}}`, "t", `{"lag":3}`},
		{"bc, formatversion 1", `{"error":{"code":"c","info":"t","*":"d"}}`, "t", ""},
		{"plaintext", `{"errors":[{"code":"c","text":"t","data":{"lag":3},"module":"m"}],"docref":"d"}`, "t", `{"lag":3}`},
		{"plaintext, formatversion 1", `{"errors":[{"code":"c","*":"t","module":"m"}],"*":"d"}`, "t", ""},
		{"html", `{"errors":[{"code":"c","html":"<b>t</b>","module":"m"}]}`, "<b>t</b>", ""},
		{"raw", `{"errors":[{"code":"c","key":"apierror-c","params":[],"module":"m"}]}`, "apierror-c", ""},
		{"none", `{"errors":[{"code":"c","module":"m"}]}`, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, status := range []int{200, 400, 500} {
				for _, header := range []string{"c", ""} {
					c := newClient(t, mediawiki.Config{}, func(*http.Request) (*http.Response, error) {
						return answer(status, test.body, "MediaWiki-API-Error", header, "X-Request-Id", "r"), nil
					})
					result := map[string]any{"kept": true}
					err := c.Get(t.Context(), nil, &result)
					var e *mediawiki.APIError
					if !errors.As(fmt.Errorf("wrapped: %w", err), &e) || !mediawiki.HasCode(err, "c") {
						t.Fatal(err)
					}
					d := e.Errors[0]
					if e.Status != status || e.RequestID != "r" || d.Code != "c" || d.Text != test.text || string(d.Data) != test.data || d.Module != "m" && d.Module != "" || len(result) != 1 {
						t.Errorf("%+v, result %v", e, result)
					}
				}
			}
		})
	}
	c := newClient(t, mediawiki.Config{}, func(*http.Request) (*http.Response, error) {
		return answer(200, `{"errors":[{"code":"a","text":"A"},{"code":"b","text":"B"}]}`), nil
	})
	if err := c.Get(t.Context(), nil, nil); !mediawiki.HasCode(err, "a") || !mediawiki.HasCode(err, "b") || err.Error() != "mediawiki: the wiki answered a (A), b (B)" {
		t.Errorf("two errors: %v", err)
	}
}

func TestWarnings(t *testing.T) {
	body := ""
	var got []mediawiki.Warning
	send := func(*http.Request) (*http.Response, error) { return answer(200, body), nil }
	c := newClient(t, mediawiki.Config{OnWarning: func(w mediawiki.Warning) { got = append(got, w) }}, send)
	for _, test := range []struct{ name, body string }{
		{"plaintext", `{"warnings":[{"code":"c","text":"t","module":"m"}]}`},
		{"plaintext, formatversion 1", `{"warnings":[{"code":"c","*":"t","module":"m"}]}`},
		{"html", `{"warnings":[{"code":"c","html":"t","module":"m"}]}`},
		{"bc", `{"warnings":{"m":{"warnings":"t"}}}`},
		{"bc, formatversion 1", `{"warnings":{"m":{"*":"t"}}}`},
		{"with an error", `{"errors":[{"code":"x"}],"warnings":[{"code":"c","text":"t","module":"m"}]}`},
	} {
		got, body = nil, test.body
		c.Get(t.Context(), nil, nil)
		if len(got) != 1 || got[0].Module != "m" || got[0].Text != "t" || got[0].Code != "c" && !strings.HasPrefix(test.name, "bc") {
			t.Errorf("%s: %+v", test.name, got)
		}
	}

	var log bytes.Buffer
	old := slog.Default()
	defer slog.SetDefault(old)
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	c = newClient(t, mediawiki.Config{}, send)
	for i := range 3000 {
		body = fmt.Sprintf(`{"warnings":[{"code":"c","text":"number %d","module":"m"}]}`, i/3)
		if err := c.As(c).Get(t.Context(), nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 1000 || !strings.Contains(log.String(), `msg="mediawiki: number 7" code=c module=m`) {
		t.Errorf("%d lines for 1000 distinct warnings: %.200s", n, log.String())
	}
}

func TestLostAuthorization(t *testing.T) {
	send := func(*http.Request) (*http.Response, error) {
		return answer(200, `{"errors":[{"code":"assertuserfailed"}]}`, "MediaWiki-API-Error", "assertuserfailed"), nil
	}
	c := newClient(t, mediawiki.Config{}, send)
	if err := c.As(c).Get(t.Context(), nil, nil); err == nil || !strings.Contains(err.Error(), "Authorization header was lost") {
		t.Errorf("through a session: %v", err)
	}
	if err := c.Get(t.Context(), nil, nil); !mediawiki.HasCode(err, "assertuserfailed") || strings.Contains(err.Error(), "Authorization") {
		t.Errorf("without: %v", err)
	}
}
