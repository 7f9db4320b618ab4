package mediawiki

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
)

// Query makes GET requests, the first with params and each further one with what
// the one before said to continue with, and yields each answer. No request is
// made before its answer is wanted. An error, the end of ctx among them, is
// yielded and ends it (https://www.mediawiki.org/wiki/API:Continue).
func (c *Client) Query(ctx context.Context, params Params) iter.Seq2[json.RawMessage, error] {
	return c.follow(params, func(params Params, answer *json.RawMessage) (*envelope, error) {
		return c.call(ctx, http.MethodGet, params, answer)
	})
}

// PostQuery is Query with POST requests: for what writes, such as action=purge,
// and for parameters that are too long for a URL. Each request has a token of
// the type, unless that is empty.
func (c *Client) PostQuery(ctx context.Context, tokenType string, params Params) iter.Seq2[json.RawMessage, error] {
	return c.follow(params, func(params Params, answer *json.RawMessage) (*envelope, error) {
		return c.post(ctx, tokenType, params, answer)
	})
}

func (c *Client) follow(params Params, call func(Params, *json.RawMessage) (*envelope, error)) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		next, last := params, []byte(nil)
		for {
			var answer json.RawMessage
			e, err := call(next, &answer)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(answer, nil) || len(e.next) == 0 {
				return
			}
			if bytes.Equal(e.next, last) {
				yield(nil, errors.New("mediawiki: the wiki wants to continue where it was"))
				return
			}
			last = bytes.Clone(e.next)
			more, err := continuation(e.next)
			if err != nil {
				yield(nil, err)
				return
			}
			next = merge(params, more)
		}
	}
}

// continuation reads the parameters to continue with: strings, and numbers that
// may be too long for a float.
func continuation(data []byte) (Params, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("mediawiki: what to continue with: %w", err)
	}
	params := make(Params, len(raw))
	for name, value := range raw {
		params[name] = string(value)
		if len(value) > 0 && value[0] == '"' {
			params[name] = text(value)
		}
	}
	return params, nil
}

// Batches merges the answers of a query up to the end of each batch: of the
// pages of a generator, say, a batch has all the properties, which may come in
// several answers (https://www.mediawiki.org/wiki/API:Continue). Objects are
// merged member by member, the pages of formatversion=2 by their ID or title,
// and other lists are appended to each other. A batch that an error interrupts
// is not yielded.
func Batches(answers iter.Seq2[json.RawMessage, error]) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		var batch []json.RawMessage
		for answer, err := range answers {
			if err != nil {
				yield(nil, err)
				return
			}
			batch = append(batch, answer)
			var e envelope
			if e.open(answer); !e.complete {
				continue
			}
			if !yield(mergeAnswers(batch)) {
				return
			}
			batch = nil
		}
		if len(batch) > 0 {
			yield(mergeAnswers(batch))
		}
	}
}

func mergeAnswers(answers []json.RawMessage) (json.RawMessage, error) {
	if len(answers) == 1 {
		return answers[0], nil
	}
	var merged map[string]any
	for _, answer := range answers {
		var next map[string]any
		d := json.NewDecoder(bytes.NewReader(answer))
		d.UseNumber()
		if err := d.Decode(&next); err != nil {
			return nil, fmt.Errorf("mediawiki: merge the answers of a batch: %w", err)
		}
		delete(merged, "continue") // the last counts
		if merged == nil {
			merged = next
		} else {
			mergeObject(merged, next)
		}
	}
	return json.Marshal(merged)
}

// mergeObject merges the members of b into a.
func mergeObject(a, b map[string]any) {
	for name, value := range b {
		switch value := value.(type) {
		case map[string]any:
			if old, ok := a[name].(map[string]any); ok {
				mergeObject(old, value)
				continue
			}
		case []any:
			if old, ok := a[name].([]any); ok {
				a[name] = mergeList(name, old, value)
				continue
			}
		}
		a[name] = value
	}
}

// repeated are the lists that every answer of a batch has whole.
var repeated = []string{"normalized", "converted", "redirects", "interwiki"}

func mergeList(name string, a, b []any) []any {
	if slices.Contains(repeated, name) {
		return b
	}
	if name != "pages" {
		return append(a, b...)
	}
	places := make(map[string]int, len(a))
	for i, page := range a {
		if key, ok := pageKey(page); ok {
			places[key] = i
		}
	}
	for _, page := range b {
		key, ok := pageKey(page)
		if i, found := places[key]; ok && found {
			mergeObject(a[i].(map[string]any), page.(map[string]any))
		} else {
			a = append(a, page)
		}
	}
	return a
}

// pageKey returns what a page is known by.
func pageKey(page any) (string, bool) {
	p, _ := page.(map[string]any)
	if id, ok := p["pageid"]; ok {
		return fmt.Sprint("id ", id), true
	}
	if title, ok := p["title"]; ok {
		return fmt.Sprint("title ", title), true
	}
	return "", false
}
