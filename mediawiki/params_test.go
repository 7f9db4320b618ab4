package mediawiki_test

import (
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"mediawiki.example/oauth2/mediawiki"
)

type stringer struct{}

func (stringer) String() string { return "S" }

// What a program may call its own.
type (
	title     string
	namespace int
	yes       bool
)

func TestParams(t *testing.T) {
	zone := time.FixedZone("", 3600)
	for _, test := range []struct {
		value any
		want  string // "-": left out; "!": an error
	}{
		{"a", "a"}, {"", ""}, {nil, "-"}, {true, ""}, {false, "-"}, {7, "7"}, {int64(-7), "-7"}, {uint8(7), "7"},
		{1.5, "1.5"}, {float32(0.1), "0.1"}, {1e21, "1000000000000000000000"}, {stringer{}, "S"},
		{time.Date(2026, 11, 23, 20, 0, 0, 0, zone), "2026-11-23T19:00:00Z"},
		{[]string{"a", "b"}, "a|b"}, {[]string{}, ""}, {[]string{"a|b"}, "\x1fa|b"}, {[]string{"a|b", "c"}, "\x1fa|b\x1fc"},
		{[]int{1, 2}, "1|2"}, {[]uint16{1, 2}, "1|2"}, {[]float64{1, 2.5}, "1|2.5"}, {[]any{1, "b", true, nil, false}, "1|b|"},
		{[]time.Time{time.Unix(0, 0), time.Unix(1, 0)}, "1970-01-01T00:00:00Z|1970-01-01T00:00:01Z"}, {[]stringer{{}, {}}, "S|S"},
		{int8(-7), "-7"}, {int16(7), "7"}, {int32(7), "7"}, {uint(7), "7"}, {uint32(7), "7"}, {uint64(1 << 63), "9223372036854775808"},
		{title("a"), "a"}, {namespace(4), "4"}, {yes(true), ""}, {yes(false), "-"}, {[]title{"a", "b|c"}, "\x1fa\x1fb|c"}, {[]namespace{0, 1}, "0|1"},
		{(*time.Time)(nil), "-"}, {(*stringer)(nil), "-"}, {&stringer{}, "S"}, {[]string(nil), ""},
		{struct{}{}, "!"}, {[]any{struct{}{}}, "!"}, {map[string]string{}, "!"}, {[]byte("a"), "!"}, {new(int), "!"}, {func() {}, "!"},
		{math.NaN(), "!"}, {math.Inf(1), "!"}, {[]string{"a\x1fb"}, "!"}, {[2]int{}, "!"},
	} {
		var got url.Values
		c := newClient(t, mediawiki.Config{}, func(req *http.Request) (*http.Response, error) {
			got = req.URL.Query()
			return answer(200, "{}"), nil
		})
		err := c.Get(t.Context(), mediawiki.Params{"p": test.value}, nil)
		switch {
		case test.want == "!":
			if err == nil || !strings.Contains(err.Error(), `"p"`) {
				t.Errorf("%v: %v, want an error that names the parameter", test.value, err)
			}
		case err != nil || got.Has("p") == (test.want == "-") || got.Has("p") && got.Get("p") != test.want:
			t.Errorf("%#v is sent as %q (%v), want %q", test.value, got["p"], err, test.want)
		}
	}
}

func FuzzParams(f *testing.F) {
	f.Add("a", "b|c")
	f.Add("\x1f", "")
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.Contains(a+b, "\x1f") {
			t.Skip("no list can hold it")
		}
		var query url.Values
		c := newClient(t, mediawiki.Config{}, func(r *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(r.Body)
			if err == nil {
				query, err = url.ParseQuery(string(body))
			}
			if err != nil {
				t.Error(err)
			}
			return answer(200, "{}"), nil
		})
		if err := c.Post(t.Context(), mediawiki.Params{"p": []string{a, b}, "q" + a: b}, nil); err != nil {
			t.Fatal(err)
		}
		got := query.Get("p")
		if !query.Has("q"+a) || query.Get("q"+a) != b {
			t.Errorf("%q=%q arrives as %q", "q"+a, b, query)
		}
		separator := "|"
		if rest, found := strings.CutPrefix(got, "\x1f"); found {
			got, separator = rest, "\x1f"
		}
		if parts := strings.Split(got, separator); len(parts) != 2 || parts[0] != a || parts[1] != b {
			t.Errorf("%q and %q arrive as %q", a, b, parts)
		}
	})
}
