package mediawiki

import (
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

// An APIError is an answer that has errors: of api.php, of rest.php, or of
// something in between. Ask for a code with [HasCode].
type APIError struct {
	Errors    []ErrorDetail // at least one if MediaWiki answered; none if it was a proxy or the like
	Status    int           // the HTTP status, which for api.php is mostly 200
	RequestID string        // the wiki's name for the request, for its operators; may be empty

	advice string
}

func (e *APIError) Error() string {
	var b strings.Builder
	b.WriteString("mediawiki: the wiki answered")
	if e.Status != http.StatusOK || len(e.Errors) == 0 {
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

// A Warning is what the wiki says of a request that it carried out.
type Warning struct {
	Code   string // may be empty with errorformat=bc
	Module string
	Text   string
}

// envelope is what every answer of api.php may have around its result.
type envelope struct {
	Error    json.RawMessage   `json:"error"`
	Errors   []json.RawMessage `json:"errors"`
	Warnings json.RawMessage   `json:"warnings"`
	Continue map[string]any    `json:"continue"`
	Batch    any               `json:"batchcomplete"`
}

// details returns the errors of an answer in any errorformat.
func (e *envelope) details() (details []ErrorDetail) {
	if len(e.Error) > 0 {
		details = append(details, detail(e.Error))
	}
	for _, raw := range e.Errors {
		details = append(details, detail(raw))
	}
	return details
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

// warnings returns the warnings of an answer in any errorformat.
func (e *envelope) warnings() (warnings []Warning) {
	var list []json.RawMessage
	if json.Unmarshal(e.Warnings, &list) == nil {
		for _, raw := range list {
			d := detail(raw)
			warnings = append(warnings, Warning{d.Code, d.Module, d.Text})
		}
		return warnings
	}
	var modules map[string]map[string]json.RawMessage
	if json.Unmarshal(e.Warnings, &modules) == nil { // bc
		for _, module := range slices.Sorted(maps.Keys(modules)) {
			members := modules[module]
			if s := text(members["warnings"]) + text(members["*"]); s != "" {
				warnings = append(warnings, Warning{Module: module, Text: s})
			}
		}
	}
	return warnings
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
func newRESTError(resp *http.Response, body []byte) *APIError {
	e := &APIError{Status: resp.StatusCode, RequestID: resp.Header.Get("X-Request-Id")}
	var answer struct {
		ErrorKey string            `json:"errorKey"`
		Error    json.RawMessage   `json:"error"`
		Messages map[string]string `json:"messageTranslations"`
		Reason   string            `json:"httpReason"`
		Text     string            `json:"error_description"`
	}
	if json.Unmarshal(body, &answer) != nil {
		e.advice = notJSON(resp, body)
		return e
	}
	d := ErrorDetail{Code: answer.ErrorKey, Text: answer.Messages["en"], Data: body}
	if d.Code == "" {
		d.Code = text(answer.Error)
	}
	for _, language := range slices.Sorted(maps.Keys(answer.Messages)) {
		if d.Text == "" {
			d.Text = answer.Messages[language]
		}
	}
	if d.Text == "" {
		d.Text = answer.Text + answer.Reason
	}
	if d.Code != "" || d.Text != "" {
		e.Errors = []ErrorDetail{d}
	}
	return e
}

// notJSON describes an answer that no API gave.
func notJSON(resp *http.Response, body []byte) string {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		kind = "of unknown type"
	}
	return fmt.Sprintf("%d bytes that are %s and not complete JSON: a proxy's page, or is the URL not that of an api.php?", len(body), kind)
}
