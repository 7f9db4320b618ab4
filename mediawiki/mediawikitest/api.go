package mediawikitest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// invalidAuthorization is the code of a dead access token.
const invalidAuthorization = "mwoauth-invalid-authorization"

// csrfToken is taken for a csrf token of anybody's.
const csrfToken = `0123456789abcdef+\`

// An apiError is an error of api.php.
type apiError struct {
	code, text, module string
	data               object
}

// serveAPI is api.php.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request, file *upload) {
	p := r.URL.Query()
	maps.Copy(p, r.PostForm) // the body wins
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "private, must-revalidate, max-age=0")
	g := s.authenticate(r)
	body, failure := object(nil), (*apiError)(nil)
	switch {
	case s.bearer(r) != "" && g == nil:
		failure = &apiError{code: invalidAuthorization, text: "The authorization headers in your request are not valid: Invalid access token"}
	case p.Get("assert") == "user" && (g == nil || g.user == ""):
		failure = &apiError{code: "assertuserfailed", text: "You are no longer logged in, so the action could not be completed.", module: "main"}
	case p.Get("assertuser") != "" && (g == nil || g.user != p.Get("assertuser")):
		failure = &apiError{code: "assertnameduserfailed", text: `You are no longer logged in as "` + p.Get("assertuser") + `", so the action could not be completed.`, module: "main"}
	case s.lags(p):
		w.Header().Set("Retry-After", "5")
		w.Header().Set("X-Database-Lag", strconv.Itoa(int(s.settings.Lag)))
		failure = &apiError{
			code: "maxlag", text: fmt.Sprintf("Waiting for a database server: %g seconds lagged.", s.settings.Lag), module: "main",
			data: object{"host": "10.0.0.1", "lag": s.settings.Lag, "type": "db"},
		}
	default:
		if body, failure = s.action(r, p, g, file); failure == nil {
			warn(body, p)
		}
	}
	if failure != nil {
		w.Header().Set("MediaWiki-API-Error", failure.code)
		body = failure.body(p, s.URL)
	}
	writeJSON(w, 200, body)
}

// lags reports whether a request wants to wait for the slowest replica.
func (s *Server) lags(p url.Values) bool {
	limit, err := strconv.ParseFloat(p.Get("maxlag"), 64)
	return err == nil && s.settings.Lag > limit
}

// parameters are those that the modules of this wiki know.
var parameters = strings.Fields("action format formatversion errorformat maxlag assert assertuser meta type list prop titles " +
	"aplimit apcontinue continue uiprop siprop title text summary token minor bot filename comment ignorewarnings generator gaplimit gapcontinue")

// warn adds warnings of parameters that no module knows.
func warn(body object, p url.Values) {
	var unknown []string
	for _, name := range slices.Sorted(maps.Keys(p)) {
		if !slices.Contains(parameters, name) {
			unknown = append(unknown, name)
		}
	}
	bc, list := object{}, []object{}
	add := func(module, code, text string) {
		bc[module] = object{"warnings": text}
		list = append(list, object{"code": code, "text": text, "module": module})
	}
	if len(unknown) > 0 {
		add("main", "unrecognizedparams", "Unrecognized parameter: "+strings.Join(unknown, ", ")+".")
	}
	for _, prop := range split(p.Get("uiprop")) {
		if prop != "rights" && prop != "groups" {
			add("userinfo", "unrecognizedvalues", `Unrecognized value for parameter "uiprop": `+prop)
		}
	}
	switch f := p.Get("errorformat"); {
	case len(list) == 0:
	case f == "" || f == "bc":
		body["warnings"] = bc
	default:
		body["warnings"] = list
	}
}

// body is an error in the format that was asked for.
func (e *apiError) body(p url.Values, wiki string) object {
	docref := "See " + wiki + "/w/api.php for API usage. Subscribe to the mediawiki-api-announce mailing list at &lt;https://lists.wikimedia.org/postorius/lists/mediawiki-api-announce.lists.wikimedia.org/&gt; for notice of API deprecations and breaking changes."
	newer := p.Get("formatversion") == "2"
	if f := p.Get("errorformat"); f != "" && f != "bc" {
		detail := object{"code": e.code}
		switch {
		case f == "plaintext" || f == "wikitext":
			detail["text"] = e.text
		case f == "html":
			detail["html"] = e.text
		case f == "raw":
			detail["key"], detail["params"] = "apierror-"+e.code, []string{}
		}
		if e.module != "" {
			detail["module"] = e.module
		}
		if e.data != nil {
			detail["data"] = e.data
		}
		if !newer && detail["text"] != nil {
			detail["*"] = detail["text"]
			delete(detail, "text")
		}
		body := object{"errors": []object{detail}}
		if newer {
			body["docref"] = docref
		} else {
			body["*"] = docref
		}
		return body
	}
	detail := object{"code": e.code, "info": e.text}
	maps.Copy(detail, e.data)
	if newer {
		detail["docref"] = docref
	} else {
		detail["*"] = docref
	}
	return object{"error": detail}
}

// action carries a request out.
func (s *Server) action(r *http.Request, p url.Values, g *grant, file *upload) (object, *apiError) {
	switch p.Get("action") {
	case "query":
		return s.query(r, p, g)
	case "edit":
		return s.edit(r, p)
	case "purge":
		return s.purge(r, p)
	case "upload":
		return s.upload(r, p, g, file)
	case "delete":
		return nil, &apiError{code: "permissiondenied", text: "The action you have requested is limited to users in the group: [[Test Wiki:Administrators|Administrators]]."}
	}
	return nil, &apiError{code: "badvalue", text: `Unrecognized value for parameter "action": ` + p.Get("action") + ".", module: "main"}
}

func split(s string) []string {
	if rest, found := strings.CutPrefix(s, "\x1f"); found {
		return strings.Split(rest, "\x1f")
	}
	return strings.FieldsFunc(s, func(r rune) bool { return r == '|' })
}

func (s *Server) query(r *http.Request, p url.Values, g *grant) (object, *apiError) {
	result, body := object{}, object{"batchcomplete": true}
	for _, meta := range split(p.Get("meta")) {
		switch meta {
		case "userinfo":
			info := object{"id": 0, "name": "127.0.0.1", "anon": true}
			if g != nil && g.user != "" {
				info = object{"id": s.userID(g.user), "name": g.user}
			}
			if slices.Contains(split(p.Get("uiprop")), "rights") {
				info["rights"] = []string{"createaccount", "read", "edit", "createpage", "createtalk", "viewmyprivateinfo", "editmyprivateinfo", "editmyoptions"}
			}
			result["userinfo"] = info
		case "tokens":
			tokens := object{}
			for _, kind := range split(cmp.Or(p.Get("type"), "csrf")) {
				tokens[kind+"token"] = csrfToken
			}
			result["tokens"] = tokens
		case "siteinfo":
			result["general"] = object{"sitename": "Fake Wiki", "generator": "MediaWiki 1.43.11", "base": s.URL + "/wiki/Main_Page"}
		}
	}
	if titles := split(p.Get("titles")); len(titles) > 0 {
		pages := []object{}
		for _, title := range titles {
			if pg := s.page(title); pg != nil {
				pages = append(pages, object{"pageid": pg.id, "ns": 0, "title": pg.title})
			} else {
				pages = append(pages, object{"ns": 0, "title": title, "missing": true})
			}
		}
		result["pages"] = pages
	}
	if p.Get("list") == "allpages" {
		pages, next := s.allPages(p, "ap")
		if next != "" {
			body["continue"] = object{"apcontinue": next, "continue": "-||"}
		}
		list := []object{}
		for _, pg := range pages {
			list = append(list, object{"pageid": pg.id, "ns": 0, "title": pg.title})
		}
		result["allpages"] = list
	}
	if len(result) > 0 {
		body["query"] = result
	}
	return body, nil
}

// allPages returns the pages that the module with a prefix lists, and where to
// continue.
func (s *Server) allPages(p url.Values, prefix string) (pages []*page, next string) {
	limit, err := strconv.Atoi(p.Get(prefix + "limit"))
	if err != nil || limit < 1 {
		limit = 10
	}
	for _, pg := range slices.SortedFunc(slices.Values(s.pages), func(a, b *page) int { return strings.Compare(a.title, b.title) }) {
		if pg.title < p.Get(prefix+"continue") {
			continue
		}
		if len(pages) == limit {
			return pages, pg.title
		}
		pages = append(pages, pg)
	}
	return pages, ""
}

// purge is action=purge, of all pages.
func (s *Server) purge(r *http.Request, p url.Values) (object, *apiError) {
	if r.Method != http.MethodPost {
		return nil, &apiError{code: "mustbeposted", text: "The <kbd>purge</kbd> module requires a POST request.", module: "main"}
	}
	body, list := object{"batchcomplete": true}, []object{}
	if p.Get("generator") == "allpages" {
		pages, next := s.allPages(p, "gap")
		if next != "" {
			body["continue"] = object{"gapcontinue": next, "continue": "gapcontinue||"}
		}
		for _, pg := range pages {
			list = append(list, object{"ns": 0, "title": pg.title, "purged": true})
		}
	}
	body["purge"] = list
	return body, nil
}

func (s *Server) userID(user string) int {
	for i, u := range s.users {
		if u == user {
			return i + 3
		}
	}
	return 1
}

func (s *Server) page(title string) *page {
	for _, p := range s.pages {
		if p.title == strings.ReplaceAll(title, "_", " ") {
			return p
		}
	}
	return nil
}

// mayWrite says what is in the way of a request that writes.
func (s *Server) mayWrite(r *http.Request, p url.Values) *apiError {
	switch {
	case r.URL.Query().Has("token"):
		return &apiError{code: "mustpostparams", text: "The following parameter was found in the query string, but must be in the POST body: token."}
	case p.Get("token") == "":
		return &apiError{code: "missingparam", text: `The "token" parameter must be set.`}
	case s.settings.ReadOnly != "":
		return &apiError{code: "readonly", text: "The wiki is currently in read-only mode.", module: "main", data: object{"readonlyreason": s.settings.ReadOnly}}
	case p.Get("token") != csrfToken:
		return &apiError{code: "badtoken", text: "Invalid CSRF token."}
	}
	return nil
}

func (s *Server) edit(r *http.Request, p url.Values) (object, *apiError) {
	if failure := s.mayWrite(r, p); failure != nil {
		return nil, failure
	}
	edit := s.save(p.Get("title"), p.Get("text"))
	edit["result"], edit["watched"] = "Success", true
	return object{"edit": edit}, nil
}

// save makes a revision.
func (s *Server) save(title, text string) object {
	s.edits++
	edit := object{"title": title, "contentmodel": "wikitext", "oldrevid": 0, "newtimestamp": time.Now().UTC().Format(time.RFC3339)}
	pg := s.page(title)
	if pg == nil {
		pg = &page{title: title, id: len(s.pages) + 1}
		s.pages = append(s.pages, pg)
		edit["new"] = true
	}
	edit["oldrevid"], edit["pageid"] = pg.rev, pg.id
	pg.text, pg.rev = text, s.edits+1
	edit["newrevid"] = pg.rev
	return edit
}

// Text returns the text of a page, and how many edits the wiki has had.
func (s *Server) Text(title string) (text string, edits int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.page(title); p != nil {
		text = p.text
	}
	return text, s.edits
}

// serveREST is rest.php, but for OAuth's own endpoints.
func (s *Server) serveREST(w http.ResponseWriter, r *http.Request, path string) {
	g := s.authenticate(r)
	denied := object{"error": "access_denied", "error_description": "The resource owner or authorization server denied the request.", "message": "The resource owner or authorization server denied the request."}
	switch {
	case strings.HasPrefix(path, "/oauth2/resource/") && g == nil:
		denied["hint"] = "The JWT string must have two dots"
		if strings.Count(s.bearer(r), ".") == 2 {
			denied["hint"] = "Access token could not be verified"
		}
		writeJSON(w, 401, denied)
	case g == nil && s.bearer(r) != "" && s.settings.Newer:
		writeJSON(w, 403, object{"errorKey": invalidAuthorization, "httpCode": 403, "httpReason": "Forbidden"})
	case g == nil && s.bearer(r) != "":
		writeJSON(w, 403, object{"error": "rest-read-denied", "httpCode": 403, "httpReason": "Forbidden"})
	case path == "/oauth2/resource/profile":
		w.Header().Set("Cache-Control", "private,must-revalidate,s-maxage=0")
		writeJSON(w, 200, object{
			"sub": strconv.Itoa(s.userID(g.user)), "username": g.user, "editcount": s.edits, "email_verified": false, "confirmed_email": false,
			"blocked": false, "registered": "20261123184745", "groups": []string{"*", "user", "autoconfirmed"}, "rights": []string{"read", "edit"}, "grants": g.scopes,
		})
	case path == "/oauth2/resource/scopes":
		w.Header().Set("Cache-Control", "private,must-revalidate,s-maxage=0")
		scopes, gap := object{}, 0
		for i, scope := range g.scopes {
			scopes[strconv.Itoa(i+gap)] = scope
			gap = 1
		}
		writeJSON(w, 200, object{"scopes": scopes})
	case strings.HasPrefix(path, "/v1/page/") && strings.HasSuffix(path, "/bare") && s.page(strings.TrimSuffix(path[len("/v1/page/"):], "/bare")) != nil:
		pg := s.page(strings.TrimSuffix(path[len("/v1/page/"):], "/bare"))
		writeJSON(w, 200, object{"id": pg.id, "key": strings.ReplaceAll(pg.title, " ", "_"), "title": pg.title, "content_model": "wikitext"})
	case path == "/v1/search/title":
		s.search(w, r.URL.Query())
	case path == "/v1/page" && r.Method == http.MethodPost, strings.HasPrefix(path, "/v1/page/") && r.Method == http.MethodPut:
		s.editREST(w, r, strings.TrimPrefix(path, "/v1/page/"), g)
	default:
		writeJSON(w, 404, object{"errorKey": "rest-no-match", "httpCode": 404, "httpReason": "Not Found", "messageTranslations": object{"en": "The requested relative path (" + path + ") did not match any known handler"}})
	}
}

func restError(w http.ResponseWriter, status int, key, text string, more object) {
	body := object{"errorKey": key, "messageTranslations": object{"en": text}, "httpCode": status, "httpReason": http.StatusText(status)}
	maps.Copy(body, more)
	writeJSON(w, status, body)
}

// search finds pages whose title begins with q.
func (s *Server) search(w http.ResponseWriter, q url.Values) {
	if q.Get("q") == "" {
		restError(w, 400, "missingparam", `The "q" parameter must be set.`, object{
			"error": "parameter-validation-failed", "name": "q", "value": nil, "failureCode": "missingparam", "failureData": nil,
		})
		return
	}
	pages := []object{}
	for _, p := range s.pages {
		if strings.HasPrefix(p.title, q.Get("q")) {
			pages = append(pages, object{
				"id": p.id, "key": strings.ReplaceAll(p.title, " ", "_"), "title": p.title, "excerpt": p.title,
				"matched_title": nil, "description": nil, "thumbnail": nil,
			})
		}
	}
	w.Header().Set("Cache-Control", "public, max-age=1200")
	writeJSON(w, 200, object{"pages": pages})
}

// editREST creates a page, or changes one whose latest revision is named.
func (s *Server) editREST(w http.ResponseWriter, r *http.Request, title string, g *grant) {
	var in struct {
		Source, Title string
		Latest        struct{ ID int }
	}
	switch err := json.NewDecoder(r.Body).Decode(&in); {
	case err != nil:
		restError(w, 400, "rest-json-body-parse-error", "Error parsing JSON body", nil)
		return
	case g == nil:
		restError(w, 403, "rest-permission-denied-create", "Permission denied", nil)
		return
	}
	status := http.StatusOK
	if r.Method == http.MethodPost {
		title, status = in.Title, http.StatusCreated
		w.Header().Set("Location", s.URL+"/w/rest.php/v1/page/"+url.PathEscape(title))
	} else if p := s.page(title); p == nil || p.rev != in.Latest.ID {
		restError(w, 409, "edit-conflict", "Edit conflict.", nil)
		return
	}
	edit := s.save(title, in.Source)
	http.SetCookie(w, &http.Cookie{Name: "UseDC", Value: "master", Path: "/", MaxAge: 10, HttpOnly: true})
	w.Header().Set("Cache-Control", "private,must-revalidate,s-maxage=0")
	writeJSON(w, status, object{
		"id": edit["pageid"], "title": title, "key": strings.ReplaceAll(title, " ", "_"), "content_model": "wikitext", "source": in.Source,
		"latest":  object{"id": edit["newrevid"], "timestamp": edit["newtimestamp"]},
		"license": object{"url": "", "title": ""},
	})
}
