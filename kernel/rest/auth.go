package rest

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// authorize says whether the caller may do what needs more than being able to reach
// the server.
func (s *Server) authorize(r *http.Request, a access) error {
	if s.cfg.Open || s.hasCertificate(r) {
		return nil
	}
	if s.cfg.Token == "" {
		s.refused.auth.Add(1)
		if s.tls != nil && s.tls.ClientCAs != nil {
			return errorf(401, "this needs a client certificate")
		}
		return errorf(403, "this server lets nobody do this: it has no token (--rest-token=) and no authority of client certificates (--rest-cacert=), and is not open (--rest-open)")
	}
	who := client(r)
	if none, wait := s.guard.failures.empty(who); none {
		s.refused.auth.Add(1)
		return tooMany("wrong tokens", wait)
	}
	token, given := credentials(r)
	if given && sameToken(token, s.cfg.Token) {
		return nil
	}
	s.refused.auth.Add(1)
	if !given {
		return errorf(401, "this needs the token, as Authorization: Bearer TOKEN")
	}
	s.guard.failures.take(who)
	return errorf(401, "wrong token")
}

// hasCertificate says whether the client showed a certificate of the authority that
// the operator named; crypto/tls has verified it.
func (s *Server) hasCertificate(r *http.Request) bool {
	return r.TLS != nil && len(r.TLS.VerifiedChains) > 0
}

// credentials returns the token of a request: a bearer token (RFC 6750 §2.1), or the
// password of Basic (RFC 7617), for clients that know only that.
func credentials(r *http.Request) (token string, given bool) {
	h := r.Header.Get("Authorization")
	if scheme, t, ok := strings.Cut(h, " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(t), true
	}
	if _, password, ok := r.BasicAuth(); ok {
		return password, true
	}
	return "", h != ""
}

// sameToken compares without telling, by the time that it takes, how much is right.
func sameToken(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
