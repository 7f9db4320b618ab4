package oauth2

import (
	"maps"
	"slices"
	"testing"
)

func TestChallenges(t *testing.T) {
	type params = map[string]string
	for _, test := range []struct {
		line    string
		schemes []string
		params  params // of the last
	}{
		{``, nil, nil},
		{`Bearer`, []string{"Bearer"}, params{}},
		{`Bearer realm="a"`, []string{"Bearer"}, params{"realm": "a"}},
		{`Bearer realm="a", error="invalid_token"`, []string{"Bearer"}, params{"realm": "a", "error": "invalid_token"}},
		{`Bearer error=invalid_token`, []string{"Bearer"}, params{"error": "invalid_token"}},
		{`bearer  ERROR = "invalid_token"`, []string{"bearer"}, params{"error": "invalid_token"}},
		{`Basic realm="x, Bearer error=\"invalid_token\""`, []string{"Basic"}, params{"realm": `x, Bearer error="invalid_token"`}},
		{`Basic realm="x", Bearer error="invalid_token"`, []string{"Basic", "Bearer"}, params{"error": "invalid_token"}},
		{`Negotiate abc==, Bearer error="invalid_token"`, []string{"Negotiate", "Bearer"}, params{"error": "invalid_token"}},
		{`Negotiate, Basic realm=a, Bearer error="insufficient_scope"`, []string{"Negotiate", "Basic", "Bearer"}, params{"error": "insufficient_scope"}},
		{`, ,Bearer a="b",,c=d`, []string{"Bearer"}, params{"a": "b", "c": "d"}},
		{`Bearer error="unterminated`, []string{"Bearer"}, params{"error": "unterminated"}},
		{`"quoted"`, nil, nil},
		{`Bearer error="a" @`, []string{"Bearer"}, params{"error": "a"}},
	} {
		var schemes []string
		var last params
		for scheme, params := range challenges(test.line) {
			schemes, last = append(schemes, scheme), params
		}
		if !slices.Equal(schemes, test.schemes) || !maps.Equal(last, test.params) {
			t.Errorf("challenges(%q) = %q, %q; want %q, %q", test.line, schemes, last, test.schemes, test.params)
		}
	}
}

func TestInvalidToken(t *testing.T) {
	for _, test := range []struct {
		header []string
		want   bool
	}{
		{nil, false},
		{[]string{`Bearer`}, false},
		{[]string{`Bearer error="invalid_token"`}, true},
		{[]string{`Bearer error="invalid_token_or_not"`}, false},
		{[]string{`Bearer error="insufficient_scope"`}, false},
		{[]string{`Basic error="invalid_token"`}, false},
		{[]string{`Basic realm="a"`, `BEARER realm="b", error="invalid_token"`}, true},
		{[]string{`Basic realm="Bearer error=invalid_token"`}, false},
		{[]string{`Bearer realm="a"`, `Basic error="invalid_token"`}, false},
	} {
		if got := invalidToken(test.header); got != test.want {
			t.Errorf("invalidToken(%q) = %v, want %v", test.header, got, test.want)
		}
	}
}

func FuzzChallenges(f *testing.F) {
	f.Add(`Bearer realm="a", error="invalid_token"`)
	f.Add(`Negotiate abc==, Basic realm="x\"y", Bearer error=invalid_token`)
	f.Fuzz(func(t *testing.T, line string) {
		for scheme, params := range challenges(line) {
			if scheme == "" || params == nil {
				t.Errorf("challenge %q %q", scheme, params)
			}
		}
		// A challenge in front does not hide the one after it.
		if !invalidToken([]string{line, `Bearer error="invalid_token"`}) {
			t.Error("a second line is not read")
		}
	})
}
