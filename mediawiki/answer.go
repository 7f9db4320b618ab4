package mediawiki

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"slices"
)

// An envelope is what every answer of api.php may have around its result.
type envelope struct {
	failure  []byte // of errorformat=bc
	failures []byte
	warnings []byte
	next     []byte // what to continue with
	complete bool   // the end of a batch
}

// open finds the envelope of an answer in one look over it, which does not
// decode what is in between. It reports whether the answer is a JSON object
// with a beginning and an end.
func (e *envelope) open(body []byte) bool {
	return members(body, func(name, value []byte) {
		switch string(name) {
		case "error":
			e.failure = value
		case "errors":
			e.failures = value
		case "warnings":
			e.warnings = value
		case "continue":
			e.next = value
		case "batchcomplete":
			e.complete = string(value) != "false"
		}
	})
}

// members calls f with the name and the value of each member of the JSON object
// that data has to be. Values are only looked at so far as to find their end.
func members(data []byte, f func(name, value []byte)) bool {
	i := space(data, 0)
	if i == len(data) || data[i] != '{' {
		return false
	}
	i = space(data, i+1)
	for i < len(data) && data[i] == '"' {
		start := i
		if i = afterString(data, i); i < 0 {
			return false
		}
		name := data[start+1 : i-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			name = []byte(text(data[start:i]))
		}
		if i = space(data, i); i == len(data) || data[i] != ':' {
			return false
		}
		start = space(data, i+1)
		if i = afterValue(data, start); i < 0 {
			return false
		}
		f(name, data[start:i])
		if i = space(data, i); i == len(data) || data[i] != ',' {
			break
		}
		i = space(data, i+1)
	}
	return i < len(data) && data[i] == '}' && space(data, i+1) == len(data)
}

// space returns the index of the first byte from i on that is no white space.
func space(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\n' || data[i] == '\t' || data[i] == '\r') {
		i++
	}
	return i
}

// afterString returns the index after the string that begins at i, or -1.
func afterString(data []byte, i int) int {
	for i++; i < len(data); i++ {
		quote := bytes.IndexByte(data[i:], '"')
		if quote < 0 {
			return -1
		}
		end := i + quote
		backslashes := 0
		for end-backslashes > i && data[end-1-backslashes] == '\\' {
			backslashes++
		}
		if i = end; backslashes%2 == 0 {
			return end + 1
		}
	}
	return -1
}

// afterValue returns the index after the value that begins at i, or -1.
func afterValue(data []byte, i int) int {
	for start, depth := i, 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			if i = afterString(data, i) - 1; i < 0 {
				return -1
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			} else if depth < 0 {
				return after(i, start)
			}
		case ',', ' ', '\n', '\t', '\r':
			if depth == 0 {
				return after(i, start)
			}
		}
	}
	return -1
}

// after returns i, the end of a value without brackets that begins at start.
func after(i, start int) int {
	if i == start {
		return -1
	}
	return i
}

// decode reads an answer of api.php.
func (c *Client) decode(resp *http.Response, body []byte, result any) (*envelope, error) {
	e := new(envelope)
	complete := e.open(body)
	if failures := e.errors(resp); len(failures) > 0 {
		failure := &APIError{Errors: failures, Status: resp.StatusCode, RequestID: requestID(resp)}
		if c.session != nil && HasCode(failure, "assertuserfailed") {
			failure.advice = "if the session is logged in, its Authorization header was lost on the way to the wiki"
		}
		c.warnAll(e)
		return nil, failure
	}
	if !complete || resp.StatusCode != http.StatusOK {
		return nil, newHTTPError(resp, body)
	}
	if err := unmarshal(resp, body, result); err != nil {
		return nil, err
	}
	c.warnAll(e)
	return e, nil
}

// errors returns the errors of an answer, in any errorformat. That there is one
// is also said by a header.
func (e *envelope) errors(resp *http.Response) (details []ErrorDetail) {
	if json.Valid(e.failure) && string(e.failure) != "null" {
		details = append(details, detail(e.failure))
	}
	var list []json.RawMessage
	if json.Unmarshal(e.failures, &list) == nil {
		for _, raw := range list {
			details = append(details, detail(raw))
		}
	}
	if code := resp.Header.Get("MediaWiki-API-Error"); len(details) == 0 && code != "" {
		details = append(details, ErrorDetail{Code: code})
	}
	return details
}

// A Warning is what the wiki says of a request that it carried out.
type Warning struct {
	Code   string // such as "unrecognizedparams"; empty with errorformat=bc
	Module string // such as "main" or "query"
	Text   string // in the errorformat that was asked for
}

func (c *Client) warnAll(e *envelope) {
	for _, w := range e.list() {
		if c.config.OnWarning != nil {
			c.config.OnWarning(w)
		} else if c.warned.first(w) {
			slog.Warn("mediawiki: "+w.Text, "code", w.Code, "module", w.Module)
		}
	}
}

// list returns the warnings of an answer in any errorformat.
func (e *envelope) list() (warnings []Warning) {
	var list []json.RawMessage
	if json.Unmarshal(e.warnings, &list) == nil {
		for _, raw := range list {
			d := detail(raw)
			warnings = append(warnings, Warning{d.Code, d.Module, d.Text})
		}
		return warnings
	}
	var modules map[string]map[string]json.RawMessage
	if json.Unmarshal(e.warnings, &modules) == nil { // bc
		for _, module := range slices.Sorted(maps.Keys(modules)) {
			members := modules[module]
			if s := text(members["warnings"]) + text(members["*"]); s != "" {
				warnings = append(warnings, Warning{Module: module, Text: s})
			}
		}
	}
	return warnings
}
