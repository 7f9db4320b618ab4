package mediawiki

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// REST makes a request to a path below rest.php, such as "/v1/page/{title}". A
// parameter that the path names in braces goes there, escaped; the others go
// into the query, with true and false as words. body is sent as JSON, unless it
// is nil. The answer's JSON is decoded into result, unless that is nil; into a
// *[]byte goes the answer as it is, for what is HTML or a file
// (https://www.mediawiki.org/wiki/API:REST_API).
func (c *Client) REST(ctx context.Context, method, path string, params Params, body, result any) error {
	target, err := c.restURL(path, params)
	if err != nil {
		return err
	}
	var payload *payload
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("mediawiki: REST body: %w", err)
		}
		payload = textPayload("application/json", string(data))
	}
	raw, isRaw := result.(*[]byte)
	accept := "application/json"
	if isRaw {
		accept = "*/*"
	}
	resp, answer, err := c.send(ctx, method, target, accept, payload)
	switch {
	case err != nil:
		return err
	case resp.StatusCode/100 != 2:
		return newRESTError(resp, answer)
	case isRaw:
		*raw = answer
		return nil
	case result == nil || resp.StatusCode == http.StatusNoContent:
		return nil
	}
	return unmarshal(resp, answer, result)
}

// restURL returns the URL of a path below rest.php.
func (c *Client) restURL(path string, params Params) (*url.URL, error) {
	v := make(map[string]string, len(params))
	for name, value := range params {
		s, ok, err := format(value)
		if b, isBool := value.(bool); isBool {
			s, ok = strconv.FormatBool(b), true
		}
		if err != nil {
			return nil, fmt.Errorf("mediawiki: parameter %q: %w", name, err)
		}
		if ok {
			v[name] = s
		}
	}
	var b strings.Builder
	for rest := strings.TrimPrefix(path, "/"); rest != ""; {
		literal, after, found := strings.Cut(rest, "{")
		b.WriteString(literal)
		if !found {
			break
		}
		name, after, closed := strings.Cut(after, "}")
		value := v[name]
		switch {
		case !closed:
			return nil, fmt.Errorf("mediawiki: REST path %q: a brace that is not closed", path)
		case value == "" || value == "." || value == "..":
			return nil, fmt.Errorf("mediawiki: REST path %q: parameter %q is missing, or no part of a path", path, name)
		}
		b.WriteString(url.PathEscape(value))
		delete(v, name)
		rest = after
	}
	script := c.api.Path[:strings.LastIndexByte(c.api.Path, '/')+1]
	target, err := url.Parse(c.api.Scheme + "://" + c.api.Host + script + "rest.php/" + b.String())
	if err != nil {
		return nil, fmt.Errorf("mediawiki: REST path: %w", bare(err))
	}
	query := target.Query()
	for name, value := range v {
		query.Set(name, value)
	}
	target.RawQuery = query.Encode()
	return target, nil
}
