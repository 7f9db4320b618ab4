package oauth2

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
)

// newVerifier returns a fresh code verifier: 52 unreserved characters with 260
// random bits (RFC 7636 sections 4.1 and 7.1).
func newVerifier() string {
	return rand.Text() + rand.Text()
}

// challengeMethod is sent with every challenge: what a wiki assumes without it
// is "plain", which hides nothing (RFC 7636 sections 4.3 and 7.2).
const challengeMethod = "S256"

// challenge returns the S256 code challenge of a verifier (RFC 7636 section 4.2).
func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
