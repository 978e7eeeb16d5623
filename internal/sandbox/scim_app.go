package sandbox

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"sync"

	"github.com/postern-net/postern/backend"
	"github.com/postern-net/postern/internal/serve"
)

// laySCIM gives a node the SCIM doors, with a certificate for all of their hosts.
func (s *Sandbox) laySCIM(c *serve.Config) error {
	domain := s.platform.Domains.SCIM
	if domain == "" {
		return nil
	}
	for i := range c.Ingress {
		c.Ingress[i].SCIM = netip.AddrPortFrom(s.places.scim[c.Ingress[i].Region], s.httpsPort)
	}
	c.SCIM = serve.SCIM{BackendCAFile: s.path("ca.pem"), RequestsPerSecond: 1000} // for whoever runs a compliance suite
	if s.options.SCIMACME != nil {
		c.SCIM.ACME = *s.options.SCIMACME
		return nil
	}
	c.SCIM.CertificateFile, c.SCIM.KeyFile = s.path("scim.crt"), s.path("scim.key")
	pair, err := s.authority.issue("*." + domain)
	if err != nil {
		return fmt.Errorf("the SCIM doors' certificate: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return err
	}
	var chain []byte
	for _, der := range pair.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return errors.Join(
		writeFile(c.SCIM.CertificateFile, chain),
		writeFile(c.SCIM.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})),
	)
}

// scimRequest is a request to a tenant's app that was not for SCIM's path, or
// was, as the app got it.
type scimRequest struct {
	tenant   string // by the name that the ingress admitted
	method   string
	target   string
	endpoint string // through which it came; "": publicly
}

// scimApp is the SCIM part of the platform's app: it makes users and lists
// them, and records what every request to the app was.
type scimApp struct {
	mu    sync.Mutex
	seen  []scimRequest
	users map[string][]scimUser // by host
}

type scimUser struct {
	Schemas  []string `json:"schemas"`
	ID       string   `json:"id"`
	UserName string   `json:"userName"`
}

// maxSeen bounds the record; the oldest go.
const maxSeen = 1000

// scimToken is the secret that a tenant's identity provider shows.
func scimToken(host string) string { return "scim-token-of-" + host }

func (a *scimApp) record(r scimRequest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen = append(a.seen, r); len(a.seen) > maxSeen {
		a.seen = a.seen[len(a.seen)-maxSeen:]
	}
}

// publicly lists what a tenant's app got over the internet since the n-th
// record, and the number of the next.
func (a *scimApp) publicly(host string) (out []scimRequest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.seen {
		if r.tenant == host && r.endpoint == "" {
			out = append(out, r)
		}
	}
	return out
}

// handler answers /scim/v2, and hands everything else on.
func (a *scimApp) handler(other *url.URL, next http.Handler) http.Handler {
	own := http.HandlerFunc(a.serve)
	var scim http.Handler = own
	if other != nil {
		scim = &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(other)
			// As the client knows this host, for the links in answers.
			p.Out.Host = p.In.Host
			for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				p.Out.Header[name] = p.In.Header[name]
			}
		}}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrival, _ := backend.FromContext(r.Context())
		a.record(scimRequest{tenant: arrival.Authority, method: r.Method, target: r.RequestURI, endpoint: arrival.VPCEndpointID})
		if r.URL.Path == "/scim/v2" || strings.HasPrefix(r.URL.Path, "/scim/v2/") {
			scim.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// serve makes users and lists them, for whoever shows the tenant's token.
func (a *scimApp) serve(w http.ResponseWriter, r *http.Request) {
	arrival, _ := backend.FromContext(r.Context())
	answer := func(status int, v any) {
		h := w.Header()
		h.Set("Content-Type", "application/scim+json")
		// What apps say that is not for an identity provider.
		h.Set("Set-Cookie", "session=1")
		h.Set("Server", "sandbox/1 at "+r.Host)
		h.Set("Trailer", "X-Late")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v) // the client is gone, or it is not
		h.Set("X-Late", "1")
	}
	refuse := func(status int, detail string) {
		answer(status, map[string]any{"schemas": []string{"urn:ietf:params:scim:api:messages:2.0:Error"}, "status": fmt.Sprint(status), "detail": detail})
	}
	if r.Header.Get("Authorization") != "Bearer "+scimToken(arrival.Authority) {
		refuse(http.StatusUnauthorized, "no bearer token of this tenant")
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	users := a.users[arrival.Authority]
	switch {
	case r.URL.Path != "/scim/v2/Users":
		refuse(http.StatusNotFound, "this stand-in has /Users only")
	case r.Method == http.MethodGet:
		answer(http.StatusOK, map[string]any{"schemas": []string{"urn:ietf:params:scim:api:messages:2.0:ListResponse"}, "totalResults": len(users), "Resources": users})
	case r.Method == http.MethodPost:
		var u scimUser
		b, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
		if err != nil || json.Unmarshal(b, &u) != nil || u.UserName == "" || len(users) >= maxSeen {
			refuse(http.StatusBadRequest, "no user with a userName")
			return
		}
		u.ID = rand.Text()
		if a.users == nil {
			a.users = map[string][]scimUser{}
		}
		a.users[arrival.Authority] = append(users, u)
		w.Header().Set("Location", "https://"+arrival.Authority+"/scim/v2/Users/"+u.ID)
		answer(http.StatusCreated, u)
	default:
		refuse(http.StatusMethodNotAllowed, "this stand-in makes users and lists them")
	}
}
