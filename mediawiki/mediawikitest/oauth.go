package mediawikitest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html"
	"html/template"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

type object = map[string]any

func writeJSON(w http.ResponseWriter, status int, body any) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.Encode(body)
}

const (
	badRequest = "The request is missing a required parameter, includes an invalid parameter value, includes a parameter more than once, or is otherwise malformed."
	badGrant   = "The provided authorization grant (e.g., authorization code, resource owner credentials) or refresh token is invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to another client."
	badClient  = "Client authentication failed (e.g., unknown client, no client authentication included, or unsupported authentication method)"
)

func tokenError(w http.ResponseWriter, status int, code, description, hint string) {
	w.Header().Set("Cache-Control", "private,no-cache,s-maxage=0")
	body := object{"error": code, "error_description": description, "message": description}
	if hint != "" {
		body["hint"] = hint
	}
	writeJSON(w, status, body)
}

// serveAuthorize shows the consent page, and takes the decision.
func (s *Server) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	c := s.clients[q.Get("client_id")]
	switch {
	case q.Get("response_type") != "code":
		errorPage(w, 400, badRequest, "Check the `response_type` parameter")
		return
	case c == nil || q.Has("redirect_uri") && !s.takesRedirect(c, q.Get("redirect_uri")):
		errorPage(w, 401, badClient, "")
		return
	case c.Public && q.Get("code_challenge") == "":
		errorPage(w, 400, badRequest, "Code challenge must be provided for public clients")
		return
	}
	scopes := c.Grants
	if q.Get("scope") != "" {
		scopes = strings.Fields(q.Get("scope"))
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		consentPage.Execute(w, object{"Client": c.Name, "Scopes": describe(scopes), "Users": s.users})
		return
	}
	back, _ := url.Parse(c.RedirectURL)
	if q.Has("redirect_uri") {
		back, _ = url.Parse(q.Get("redirect_uri"))
	}
	query := back.Query()
	if r.PostForm.Get("decision") != "allow" || !slices.Contains(s.users, r.PostForm.Get("user")) {
		const no = "User has rejected the request from client application"
		if !q.Has("redirect_uri") {
			errorPage(w, 401, no, "")
			return
		}
		query.Set("error", "unauthorized_client")
		query.Set("error_description", no)
		query.Set("message", no)
	} else {
		code := "def50200" + opaque(920)
		s.codes[code] = &grant{
			client: c, user: r.PostForm.Get("user"), redirectURI: q.Get("redirect_uri"), scopes: scopes,
			challenge: q.Get("code_challenge"), plain: q.Get("code_challenge_method") != "S256",
			expires: time.Now().Add(10 * time.Minute),
		}
		query.Set("code", code)
		if q.Has("state") {
			query.Set("state", q.Get("state"))
		}
	}
	back.RawQuery = query.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

// serveToken is the token endpoint.
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	f := r.PostForm
	switch {
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", "POST")
		writeJSON(w, 405, object{"httpCode": 405, "httpReason": "Method Not Allowed", "messageTranslations": object{"en": "The request method (" + r.Method + ") was not the allowed method for this path (POST)"}})
		return
	case !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		writeJSON(w, 415, object{"errorKey": "rest-unsupported-content-type", "httpCode": 415, "httpReason": "Unsupported Media Type", "messageTranslations": object{"en": "Unsupported Content-Type: " + r.Header.Get("Content-Type")}})
		return
	case !f.Has("grant_type"):
		tokenError(w, 400, "invalid_request", `Invalid request: Invalid request body: The "grant_type" parameter must be set.`, "Check the `grant_type` parameter")
		return
	case !slices.Contains([]string{"authorization_code", "refresh_token", "client_credentials"}, f.Get("grant_type")):
		tokenError(w, 400, "invalid_request", `Invalid request: Invalid request body: Unrecognized value for parameter "grant_type": `+f.Get("grant_type")+".", "Check the `grant_type` parameter")
		return
	}
	id, secret, basic := r.BasicAuth()
	if !basic {
		id, secret = f.Get("client_id"), f.Get("client_secret")
	}
	c := s.clients[id]
	needsSecret := c != nil && (!c.Public || f.Get("grant_type") == "refresh_token" && !s.settings.Newer) // T323855
	if c == nil || needsSecret && secret != c.Secret || f.Has("redirect_uri") && !s.takesRedirect(c, f.Get("redirect_uri")) {
		tokenError(w, 401, "invalid_client", "Client authentication failed", "")
		return
	}
	switch f.Get("grant_type") {
	case "client_credentials":
		if !c.Machine && c.Owner == "" {
			tokenError(w, 401, "invalid_client", "Client authentication failed", "")
			return
		}
		s.issue(w, &grant{client: c, user: c.Owner, scopes: c.Grants}, false)
	case "authorization_code":
		s.exchange(w, c, f)
	case "refresh_token":
		s.serveRefresh(w, c, f.Get("refresh_token"))
	}
}

// exchange takes an authorization code.
func (s *Server) exchange(w http.ResponseWriter, c *Client, f url.Values) {
	g := s.codes[f.Get("code")]
	code, description := "invalid_request", badRequest
	if s.settings.Newer {
		code, description = "invalid_grant", badGrant
	}
	verifier := f.Get("code_verifier")
	switch {
	case g == nil || g.client != c:
		tokenError(w, 400, code, description, "Cannot decrypt the authorization code")
	case !g.used.IsZero() || g.revoked:
		tokenError(w, 400, code, description, "Authorization code has been revoked")
	case !time.Now().Before(g.expires):
		tokenError(w, 400, code, description, "Authorization code has expired")
	case g.redirectURI != f.Get("redirect_uri"):
		tokenError(w, 400, "invalid_request", badRequest, "Check the `redirect_uri` parameter")
	case g.challenge != "" && verifier == "", g.challenge == "" && verifier != "" && s.settings.Newer:
		tokenError(w, 400, "invalid_request", badRequest, "Check the `code_verifier` parameter")
	case g.challenge != "" && !g.verifies(verifier):
		tokenError(w, 400, "invalid_grant", badGrant, "Failed to verify `code_verifier`.")
	default:
		g.used = time.Now()
		s.issue(w, &grant{client: c, user: g.user, scopes: g.scopes}, true)
	}
}

func (g *grant) verifies(verifier string) bool {
	if g.plain {
		return verifier == g.challenge
	}
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:]) == g.challenge
}

// serveRefresh takes a refresh token.
func (s *Server) serveRefresh(w http.ResponseWriter, c *Client, token string) {
	g, hint := s.refresh[token], ""
	switch {
	case g == nil:
		hint = "Cannot decrypt the refresh token"
	case g.client != c:
		hint = "Token is not linked to client"
	case !time.Now().Before(g.expires):
		hint = "Token has expired"
	case g.revoked || !g.used.IsZero() && time.Since(g.used) >= s.settings.RefreshGrace:
		hint = "Token has been revoked"
	}
	switch {
	case hint != "" && s.settings.Newer:
		tokenError(w, 400, "invalid_grant", badGrant, hint)
	case hint != "":
		tokenError(w, 401, "invalid_request", "The refresh token is invalid.", hint)
	default:
		if g.used.IsZero() {
			g.used = time.Now()
		}
		delete(s.access, g.access) // dead at once
		s.issue(w, &grant{client: c, user: g.user, scopes: g.scopes}, true)
	}
}

// issue answers with tokens.
func (s *Server) issue(w http.ResponseWriter, g *grant, withRefresh bool) {
	lifetime := 4 * time.Hour
	if s.settings.Lifetime > 0 {
		lifetime = s.settings.Lifetime
	}
	seconds := int64(lifetime / time.Second)
	g.expires = time.Now().Add(lifetime)
	if s.settings.NeverExpire {
		seconds, g.expires = 31556952000, time.Now().AddDate(1000, 0, 0)
	}
	access := jwt()
	s.access[access] = g
	body := object{"token_type": "Bearer", "expires_in": seconds, "access_token": access}
	if withRefresh {
		refresh := "def50200" + opaque(840)
		s.refresh[refresh] = &grant{client: g.client, user: g.user, scopes: g.scopes, expires: time.Now().AddDate(1, 0, 0), access: access}
		body["refresh_token"] = refresh
	}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=UTF-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	http.SetCookie(w, &http.Cookie{Name: "UseDC", Value: "master", Path: "/", MaxAge: 10, HttpOnly: true})
	writeJSON(w, 200, body)
}

func describe(scopes []string) (words []string) {
	known := map[string]string{
		"basic": "Know who you are, and read", "editpage": "Edit existing pages", "createeditmovepage": "Create, edit and move pages",
		"uploadfile": "Upload files", "highvolume": "Edit in high volume", "editprotected": "Edit protected pages",
	}
	for _, scope := range scopes {
		if known[scope] != "" {
			scope = known[scope]
		}
		words = append(words, scope)
	}
	return words
}

const style = `<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<style>
	:root { color-scheme: light dark }
	body { font: 1em/1.5 system-ui, sans-serif; max-width: 34em; margin: 8vh auto; padding: 0 1em }
	main { border: 1px solid #a2a9b1; border-radius: 4px; padding: 1em 2em 2em }
	button, select { font: inherit; padding: .4em 1.2em; border: 1px solid #a2a9b1; border-radius: 4px }
	button[value=allow] { background: #36c; border-color: #36c; color: #fff; font-weight: bold }
	footer { color: #72777d; font-size: .85em; margin-top: 1em }
</style>`

var consentPage = template.Must(template.New("consent").Parse(`<!DOCTYPE html>
<html lang="en"><head><title>{{.Client}} asks to act for you - Fake Wiki</title>` + style + `</head>
<body><main>
<h1>May {{.Client}} act for you?</h1>
<p><b>{{.Client}}</b> would like to do these things on your behalf on Fake Wiki:</p>
<ul>{{range .Scopes}}<li>{{.}}</li>{{end}}</ul>
<form method="post">
<p><label>You are <select name="user">{{range .Users}}<option>{{.}}</option>{{end}}</select></label></p>
<p><button name="decision" value="allow">Allow</button> <button name="decision" value="cancel">Cancel</button></p>
</form>
</main><footer>This is a fake wiki for tests. Nothing you do here reaches a real one.</footer></body></html>
`))

var errorTemplate = template.Must(template.New("error").Parse(`<!DOCTYPE html>
<html lang="en"><head><title>Application Connection Error - Fake Wiki</title>` + style + `</head>
<body><main><h1>Application Connection Error</h1>
<p>{{.Text}}</p>{{if .Hint}}<p>Additional debug information: {{.Hint}}</p>{{end}}
</main></body></html>
`))

func errorPage(w http.ResponseWriter, status int, text, hint string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	errorTemplate.Execute(w, object{"Text": text, "Hint": hint})
}

var (
	paragraphs = regexp.MustCompile(`(?s)<p>(.*?)</p>`)
	tags       = regexp.MustCompile(`<[^>]*>`)
)

// pageText returns the paragraphs of a page.
func pageText(page string) string {
	var texts []string
	for _, p := range paragraphs.FindAllStringSubmatch(page, -1) {
		texts = append(texts, html.UnescapeString(tags.ReplaceAllString(p[1], "")))
	}
	return strings.Join(slices.DeleteFunc(texts, func(s string) bool { return s == "" }), "\n")
}
