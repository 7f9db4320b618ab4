package main

import (
	"html/template"
	"net/http"
)

// A page is what a user sees.
type page struct {
	User    string // who is logged in, if anybody is
	Message string
}

func show(w http.ResponseWriter, status int, p page) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(status)
	pages.Execute(w, p)
}

var pages = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Web tool</title>
<style>
	:root { color-scheme: light dark }
	body { font: 1em/1.5 system-ui, sans-serif; max-width: 34em; margin: 8vh auto; padding: 0 1em }
	input, textarea { display: block; width: 100%; box-sizing: border-box; font: inherit; margin-bottom: .8em }
	button { font: inherit; padding: .3em 1em }
</style>
<h1>Web tool</h1>
{{with .Message}}<p>{{.}}</p><p><a href="/">Back</a></p>{{end}}
{{if .User}}
	<p>You are logged in as <b>{{.User}}</b>.</p>
	<form method="post" action="/edit">
		<label>Page <input name="title" value="Sandbox" required></label>
		<label>Text <textarea name="text" rows="4">Hello</textarea></label>
		<button>Save</button>
	</form>
	<form method="post" action="/logout"><p><button>Log out</button></p></form>
{{else if not .Message}}
	<p>This tool edits a wiki as you.</p>
	<form method="post" action="/login"><button>Log in</button></form>
{{end}}
</html>
`))
