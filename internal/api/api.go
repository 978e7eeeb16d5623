// Package api serves Postern's HTTP API: it turns requests into transactions
// of the store and errors of the domain into problem documents (RFC 9457).
//
// Every request has an identity; what each route allows to which role is
// declared where the route is, decided in access.go, and refused by default.
// The wire types are those of the client package.
package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/plan"
	"github.com/postern-net/postern/internal/store"
)

// Cloud is what requests need of AWS.
type Cloud interface {
	// FindConnections looks endpoints up in a service, all at once; what is not
	// there is not in the answer.
	FindConnections(ctx context.Context, svc postern.ServiceRef, endpointIDs []string) (map[string]postern.Connection, error)
	// CallerIdentity has STS say who signed a proof that is bound to binding.
	CallerIdentity(ctx context.Context, p client.Proof, binding string) (postern.Caller, error)
}

// Loop is what requests need of the control loop.
type Loop interface {
	// Connections is what AWS listed last.
	Connections() []postern.Connection
	// Preview is what would be done at AWS now.
	Preview(ctx context.Context) ([]plan.Action, error)
	// Preflight is what stands against a tenant's cutover now.
	Preflight(ctx context.Context, tenant string) ([]postern.Blocker, error)
	// TenantDNS is what the public zones are to say for a tenant, and whether
	// they do.
	TenantDNS(ctx context.Context, tenant string) (plan.TenantDNS, error)
	// PreviewConnection is what would become of a data connection, and what
	// would be done at AWS for it.
	PreviewConnection(ctx context.Context, c postern.DataConnection) (postern.DataConnection, []plan.ConnectionAction, error)
}

// Config is what a [Server] is made of.
type Config struct {
	Platform *postern.Platform
	Store    *store.Store
	Cloud    Cloud
	Loop     Loop
	Hub      Hub
	Rules    plan.Rules
	Pace     Pace // of proofs and claims
	Now      func() time.Time
	Logger   *slog.Logger
	Version  string
}

// Server is the API's handler.
type Server struct {
	Config
	mux    *http.ServeMux
	api    huma.API
	routes []Route
	pacer  *pacer
}

// Route is one operation and who may call it.
type Route struct {
	Method, Path string
	Roles        []postern.Role
}

// New registers every route.
func New(c Config) *Server {
	s := &Server{Config: c, mux: http.NewServeMux(), pacer: newPacer(c.Pace, c.Now)}
	hc := huma.DefaultConfig("Postern", c.Version)
	hc.Info.Description = "Private access to a SaaS platform over AWS PrivateLink. Errors are problem documents (RFC 9457) with a stable type."
	hc.CreateHooks = nil // no $schema in bodies
	hc.DocsPath = ""     // the page would load scripts from elsewhere
	hc.SchemasPath = ""
	hc.Transformers = []huma.Transformer{s.problemTransformer}
	hc.Components.SecuritySchemes = map[string]*huma.SecurityScheme{"token": {Type: "http", Scheme: "bearer", Description: "A token's secret"}}
	s.api = humago.New(oneByOne{s.mux}, hc)
	s.catalogueRoutes()
	s.organizationRoutes()
	s.accountRoutes()
	s.endpointRoutes()
	s.cutoverRoutes()
	s.dataConnectionRoutes()
	s.workloadTokenRoutes()
	s.nodeRoutes()
	s.recordRoutes()
	s.tokenRoutes()
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(r.Context(), w, problemOf(&postern.Error{Code: postern.CodeNotFound, Message: "no such route: " + r.Method + " " + r.URL.Path, Fix: "see /openapi.json"}))
	})
	return s
}

// oneByOne has the pages that describe the API made for one client at a time:
// the library remembers them when they are asked for first, without a lock.
type oneByOne struct{ *http.ServeMux }

// HandleFunc registers a handler; those of the pages come through here too.
func (m oneByOne) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	if !strings.Contains(pattern, " /openapi") {
		m.ServeMux.HandleFunc(pattern, handler)
		return
	}
	var making sync.Mutex
	m.ServeMux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		var page bytes.Buffer
		made := &memory{header: w.Header(), body: &page}
		making.Lock()
		handler(made, r)
		making.Unlock()
		_, _ = page.WriteTo(w) // the client is gone, or it is not
	})
}

// memory is a response that is kept.
type memory struct {
	header http.Header
	body   *bytes.Buffer
}

func (m *memory) Header() http.Header         { return m.header }
func (m *memory) WriteHeader(int)             {}
func (m *memory) Write(b []byte) (int, error) { return m.body.Write(b) }

// Routes lists every operation, for the authorization table's test.
func (s *Server) Routes() []Route { return s.routes }

// OpenAPI is the API's description as YAML.
func (s *Server) OpenAPI() ([]byte, error) { return s.api.OpenAPI().YAML() }

type requestIDKey struct{}

// requestIDOf returns the ID that ServeHTTP gave to the request.
func requestIDOf(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// ServeHTTP gives every request an ID, logs it, and turns a panic into an
// internal error without its text.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start, id := time.Now(), rand.Text()[:16]
	w.Header().Set("X-Request-Id", id)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	r = r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id))
	sw := &statusWriter{ResponseWriter: w}
	defer func() {
		if p := recover(); p != nil {
			s.Logger.Error("a request panicked", "request_id", id, "panic", p, "stack", string(debug.Stack()))
			if sw.status == 0 {
				writeProblem(r.Context(), sw, internalProblem())
			}
		}
		s.Logger.Log(r.Context(), requestLevel(r, sw.status), "request", "request_id", id, "method", r.Method, "path", r.URL.Path, "status", sw.status, "duration", time.Since(start))
	}()
	// net/url drops what it cannot read of a query: a filter or a page token
	// that was mistyped must not widen the answer.
	if _, err := url.ParseQuery(r.URL.RawQuery); err != nil {
		writeProblem(r.Context(), sw, problemOf(malformedQuery(r.URL.RawQuery)))
		return
	}
	s.mux.ServeHTTP(sw, r)
}

// malformedQuery names the first parameter that cannot be read.
func malformedQuery(raw string) *postern.Error {
	for pair := range strings.SplitSeq(raw, "&") {
		if _, err := url.ParseQuery(pair); err != nil {
			name, value, _ := strings.Cut(pair, "=")
			return postern.Invalid(name, value, "not encoded as a query is", "encode the value as a URL's query does (percent-encoding)")
		}
	}
	return postern.Invalid("", "", "the query cannot be read", "encode it as a URL's query (percent-encoding)")
}

// requestLevel is that of a request in the log. Nodes report every second;
// what they did well is worth no line.
func requestLevel(r *http.Request, status int) slog.Level {
	if strings.HasPrefix(r.URL.Path, "/v1/nodelink/") && status < http.StatusBadRequest {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// statusWriter remembers the status for the log.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController flush streams.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
