package mediawiki

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
)

// PostWithToken makes a POST request with a token of a type, such as "csrf"
// (https://www.mediawiki.org/wiki/API:Tokens). The token is fetched when it is
// needed, once for however many goroutines, and kept in the Client until a
// login. If the wiki calls it bad it is replaced, and the request repeated
// once.
func (c *Client) PostWithToken(ctx context.Context, tokenType string, params Params, result any) error {
	_, err := c.post(ctx, tokenType, params, result)
	return err
}

// post makes a POST request, with a token if a type is given.
func (c *Client) post(ctx context.Context, tokenType string, params Params, result any) (*envelope, error) {
	if tokenType == "" {
		return c.call(ctx, http.MethodPost, params, result)
	}
	for again := false; ; again = true {
		token, err := c.token(ctx, tokenType)
		if err != nil {
			return nil, err
		}
		e, err := c.call(ctx, http.MethodPost, merge(params, Params{"token": token}), result)
		if !HasCode(err, "badtoken") {
			return e, err
		}
		c.tokens.drop(tokenType, token)
		if again || errors.Is(err, errStream) {
			return nil, err
		}
	}
}

// token returns a token of a type.
func (c *Client) token(ctx context.Context, tokenType string) (string, error) {
	select {
	case c.fetch <- struct{}{}:
		defer func() { <-c.fetch }()
	case <-ctx.Done():
		return "", fmt.Errorf("mediawiki: wait for a token: %w", context.Cause(ctx))
	}
	if token := c.tokens.get(tokenType); token != "" {
		return token, nil
	}
	var result struct {
		Query struct {
			Tokens map[string]string `json:"tokens"`
		} `json:"query"`
	}
	err := c.Get(ctx, Params{"action": "query", "meta": "tokens", "type": tokenType, "format": "json", "formatversion": 2}, &result)
	if err != nil {
		return "", err
	}
	token := result.Query.Tokens[tokenType+"token"]
	if token == "" {
		return "", fmt.Errorf("mediawiki: the wiki has no token of type %q", tokenType)
	}
	c.tokens.set(tokenType, token)
	return token, nil
}

// tokens are what is known of a wiki's tokens, by type.
type tokens struct {
	mu    sync.Mutex
	known map[string]string // guarded by mu
}

func (t *tokens) get(tokenType string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known[tokenType]
}

func (t *tokens) set(tokenType, token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil {
		t.known = make(map[string]string)
	}
	t.known[tokenType] = token
}

// drop forgets a token that the wiki has called bad, unless it is replaced
// already.
func (t *tokens) drop(tokenType, token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known[tokenType] == token {
		delete(t.known, tokenType)
	}
}

func (t *tokens) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.known)
}
