package oauth2

import (
	"bytes"
	"encoding/json"
	"io"
	"iter"
	"net/http"
	"strings"
)

// A verdict is what an answer says of the access token.
type verdict int

const (
	accepted verdict = iota
	refused
	doubtful // refused, or not allowed to read: the wiki says both alike
)

// invalidAuthorization is what MediaWiki calls a dead access token. Codes that
// only begin so mean something that a refresh cannot help.
const invalidAuthorization = "mwoauth-invalid-authorization"

// judge reads a refusal in any form that a wiki or its edge gives it, and leaves
// the body to be read.
func judge(resp *http.Response, isAPI bool, out *outgoing) verdict {
	if code := resp.Header.Get("Mediawiki-Api-Error"); code != "" {
		if code == invalidAuthorization {
			return refused
		}
		return accepted
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized && invalidToken(resp.Header["Www-Authenticate"]): // RFC 6750 section 3.1
		return refused
	case resp.StatusCode == http.StatusOK && isAPI:
		if !out.body.peek(resp, `{"error`) {
			return accepted
		}
	case resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden:
		return accepted
	}
	return judgeBody(resp.StatusCode, readAhead(resp))
}

// judgeBody judges the body of an error of api.php or of rest.php.
func judgeBody(status int, body []byte) verdict {
	var answer struct {
		Error    json.RawMessage `json:"error"`
		ErrorKey string          `json:"errorKey"`
		Errors   []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return accepted
	}
	var bc struct {
		Code string `json:"code"`
	}
	json.Unmarshal(answer.Error, &bc) // a string in rest.php's errors
	rest := text(answer.Error)
	switch {
	case answer.ErrorKey == invalidAuthorization, bc.Code == invalidAuthorization:
		return refused
	case len(answer.Errors) > 0 && answer.Errors[0].Code == invalidAuthorization:
		return refused
	case status == http.StatusUnauthorized && rest == "access_denied", status == http.StatusForbidden && rest == "rest-read-denied":
		return doubtful
	}
	return accepted
}

// readAhead returns the beginning of a body, and puts it back.
func readAhead(resp *http.Response) []byte {
	head, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	rest := io.Reader(resp.Body)
	if err != nil {
		rest = failingReader{err}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), resp.Body}
	return head
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// peeked is a body whose first bytes have been read ahead.
type peeked struct {
	io.ReadCloser
	buf  [8]byte
	n, r int   // bytes in buf, and how many of them have been read
	err  error // met when filling it
}

// peek reports whether a response's body begins with prefix, which is shorter
// than the buffer.
func (p *peeked) peek(resp *http.Response, prefix string) bool {
	p.ReadCloser = resp.Body
	for p.n < len(prefix) && p.err == nil {
		var n int
		n, p.err = p.ReadCloser.Read(p.buf[p.n:len(prefix)])
		p.n += n
	}
	resp.Body = p
	return string(p.buf[:p.n]) == prefix
}

func (p *peeked) Read(b []byte) (int, error) {
	if p.r < p.n {
		n := copy(b, p.buf[p.r:p.n])
		p.r += n
		return n, nil
	}
	if p.err != nil {
		return 0, p.err
	}
	return p.ReadCloser.Read(b)
}

// invalidToken reports whether a WWW-Authenticate header has a Bearer challenge
// with the error invalid_token, and no other (RFC 6750 section 3).
func invalidToken(header []string) bool {
	for _, line := range header {
		for scheme, params := range challenges(line) {
			if strings.EqualFold(scheme, "Bearer") && params["error"] == "invalid_token" {
				return true
			}
		}
	}
	return false
}

// challenges returns the challenges of a WWW-Authenticate header's line (RFC
// 9110 section 11.6.1), with the names of parameters in lower case. It ends at
// what it does not understand.
func challenges(line string) iter.Seq2[string, map[string]string] {
	return func(yield func(string, map[string]string) bool) {
		scheme, params := "", map[string]string(nil)
		for {
			line = strings.TrimLeft(line, ", \t")
			word, rest := cutToken(line)
			if word == "" {
				break
			}
			after := strings.TrimLeft(rest, " \t")
			if value, found := strings.CutPrefix(after, "="); found && scheme != "" {
				value, line = cutValue(strings.TrimLeft(value, " \t"))
				params[strings.ToLower(word)] = value
				continue
			}
			if scheme != "" && !yield(scheme, params) {
				return
			}
			scheme, params, line = word, make(map[string]string), skipToken68(after)
		}
		if scheme != "" {
			yield(scheme, params)
		}
	}
}

// cutToken cuts an RFC 9110 token off.
func cutToken(s string) (token, rest string) {
	i := strings.IndexFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	})
	if i < 0 {
		return s, ""
	}
	return s[:i], s[i:]
}

// cutValue cuts a token or a quoted string off.
func cutValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		return cutToken(s)
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '"':
			return b.String(), s[i+1:]
		case s[i] == '\\' && i+1 < len(s):
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), ""
}

// skipToken68 skips the credentials form of a challenge, which has no
// parameters: "Negotiate abc==".
func skipToken68(s string) string {
	i := strings.IndexAny(s, ", \t")
	if i < 0 {
		i = len(s)
	}
	if word := strings.TrimRight(s[:i], "="); word != "" && !strings.ContainsAny(word, `="`) && (i < len(s) && s[i] == ',' || i == len(s)) {
		return s[i:]
	}
	return s
}
