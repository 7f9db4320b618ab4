package mediawiki

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strings"
)

// An ErrorDetail is one error of an answer.
type ErrorDetail struct {
	Code   string          // such as "badtoken"
	Text   string          // in the errorformat that was asked for; may be empty
	Module string          // such as "main" or "edit"; may be empty
	Data   json.RawMessage // more, where the wiki has more; may be nil
}

// An APIError is an answer of api.php or rest.php that has errors. Ask for a
// code with [HasCode].
type APIError struct {
	Errors    []ErrorDetail // at least one
	Status    int           // the HTTP status, which for api.php is mostly 200
	RequestID string        // the wiki's name for the request, for its operators; may be empty

	advice string
}

func (e *APIError) Error() string {
	var b strings.Builder
	b.WriteString("mediawiki: the wiki answered")
	if e.Status != http.StatusOK {
		fmt.Fprintf(&b, " %d", e.Status)
	}
	for i, d := range e.Errors {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString(" " + d.Code)
		if d.Text != "" {
			b.WriteString(" (" + d.Text + ")")
		}
	}
	if e.advice != "" {
		b.WriteString("; " + e.advice)
	}
	return b.String()
}

// HasCode reports whether err is or wraps an [*APIError] one of whose errors has
// the code, such as "editconflict" or "rest-no-match".
func HasCode(err error, code string) bool {
	var e *APIError
	return errors.As(err, &e) && slices.ContainsFunc(e.Errors, func(d ErrorDetail) bool { return d.Code == code })
}

// detail reads an error: formats other than bc have text, html or a message
// key, formatversion 1 has some of them as "*", and bc spreads the data.
func detail(raw json.RawMessage) ErrorDetail {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return ErrorDetail{Code: text(raw)}
	}
	d := ErrorDetail{Code: text(members["code"]), Module: text(members["module"]), Data: members["data"]}
	for _, name := range []string{"text", "info", "html", "*", "key"} {
		if d.Text = text(members[name]); d.Text != "" {
			break
		}
	}
	if d.Data == nil {
		maps.DeleteFunc(members, func(name string, _ json.RawMessage) bool {
			return slices.Contains([]string{"code", "text", "info", "html", "*", "key", "params", "module", "docref"}, name)
		})
		if len(members) > 0 {
			d.Data, _ = json.Marshal(members) // of what was JSON
		}
	}
	return d
}

// text returns a JSON string's value, or "".
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// newRESTError reads an error of rest.php, or of something in between.
func newRESTError(resp *http.Response, body []byte) error {
	var answer struct {
		ErrorKey string            `json:"errorKey"`
		Error    json.RawMessage   `json:"error"`
		Messages map[string]string `json:"messageTranslations"`
		Reason   string            `json:"httpReason"`
		Text     string            `json:"error_description"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return newHTTPError(resp, body)
	}
	d := ErrorDetail{Code: cmp.Or(answer.ErrorKey, text(answer.Error)), Text: answer.Messages["en"], Data: body}
	for _, language := range slices.Sorted(maps.Keys(answer.Messages)) {
		d.Text = cmp.Or(d.Text, answer.Messages[language])
	}
	d.Text = cmp.Or(d.Text, answer.Text, answer.Reason)
	if d.Code == "" && d.Text == "" {
		return newHTTPError(resp, body)
	}
	return &APIError{Errors: []ErrorDetail{d}, Status: resp.StatusCode, RequestID: requestID(resp)}
}

// An HTTPError is an answer that is not MediaWiki's, or not whole: for instance
// a proxy's page.
type HTTPError struct {
	Status      int    // the HTTP status
	ContentType string // such as "text/html"; may be empty
	Length      int    // of what came, in bytes
	RequestID   string // for the wiki's operators; may be empty
}

func newHTTPError(resp *http.Response, body []byte) *HTTPError {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		kind = ""
	}
	return &HTTPError{resp.StatusCode, kind, len(body), requestID(resp)}
}

func (e *HTTPError) Error() string {
	return fmt.Sprintf("mediawiki: the answer is not MediaWiki's, or not whole: %d %s, %d bytes of %s; it may be a proxy's, or the URL is not that of an api.php",
		e.Status, http.StatusText(e.Status), e.Length, cmp.Or(e.ContentType, "unknown type"))
}

func requestID(resp *http.Response) string { return resp.Header.Get("X-Request-Id") }
