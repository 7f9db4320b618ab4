package mediawiki

import (
	"net/http"
	"net/url"
)

// A Session sends HTTP requests to one wiki. A [Client] is one, and so is
// anything that wraps it, such as a session of package oauth2.
//
// Do sets what every request to the wiki needs, its User-Agent among them,
// and otherwise behaves as [http.Client.Do].
//
// A Session whose Do keeps cookies or follows redirects should be an
// [http.RoundTripper] too: RoundTrip sends one request with the session's
// User-Agent, through the session's transport, without cookies and without
// following a redirect, as that interface asks. A session that wraps it and
// adds credentials sends its requests that way, so that the credentials of one
// user never meet the cookies of another, nor follow a redirect elsewhere. Of
// a Session that is no RoundTripper it is expected that Do does neither.
//
// A Session must be safe for concurrent use by multiple goroutines.
type Session interface {
	// APIURL returns the URL of the wiki's api.php. It must not be modified.
	APIURL() *url.URL

	// Do sends a request and returns the response, as http.Client.Do.
	Do(req *http.Request) (*http.Response, error)
}
