// Package trino is the sandbox's stand-in for a Starburst (Trino) cluster: a
// TLS server that speaks as much of Trino's client protocol as it takes to run
// a query that needs no table, with a certificate that can be replaced while it
// runs. Trino's own clients drive it; it holds no data and checks no user.
//
// Source: https://trino.io/docs/current/develop/client-protocol.html
package trino

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Version is what it says it is; Starburst releases are named so.
const Version = "476-postern-sandbox"

// Cluster is a running stand-in.
type Cluster struct {
	name     string
	server   *http.Server
	at       netip.AddrPort
	work     sync.WaitGroup
	pair     atomic.Pointer[tls.Certificate]
	starting atomic.Bool
	asked    atomic.Int64 // statements that were taken

	mu      sync.Mutex
	queries map[string]*query // that a client has not read to the end
}

// maxQueries bounds those.
const maxQueries = 1000

// query is a statement under way: it is queued, then it runs and has a page of
// rows each time, and then it is finished.
type query struct {
	column string
	kind   string // Trino's name of the column's type
	values []any
	error  string // "": none
	token  int    // of the page that is asked for next
}

// Start runs a cluster that presents a certificate. Its name is what the query
// SELECT current_catalog answers, so that one can tell which it is.
func Start(ctx context.Context, listen netip.AddrPort, name string, pair tls.Certificate, log *slog.Logger) (*Cluster, error) {
	c := &Cluster{name: name, queries: map[string]*query{}}
	c.pair.Store(&pair)
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", listen.String())
	if err != nil {
		return nil, fmt.Errorf("trino: %w", err)
	}
	c.at = ln.Addr().(*net.TCPAddr).AddrPort() //nolint:forcetypeassert // of a TCP listener
	c.server = &http.Server{
		Handler: c.handler(), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), // clients that do not like the certificate
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true, // each connection sees the certificate of now
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.pair.Load(), nil },
		},
	}
	c.work.Go(func() {
		if err := c.server.ServeTLS(ln, "", ""); !errors.Is(err, http.ErrServerClosed) {
			log.Error("a cluster ended", "cluster", name, "error", err)
		}
	})
	return c, nil
}

// Addr is where it listens.
func (c *Cluster) Addr() netip.AddrPort { return c.at }

// Present replaces the certificate for connections that are made from now on.
func (c *Cluster) Present(pair tls.Certificate) { c.pair.Store(&pair) }

// SetStarting makes it say that it is starting, or that it is not.
func (c *Cluster) SetStarting(starting bool) { c.starting.Store(starting) }

// Statements is how many it was given.
func (c *Cluster) Statements() int64 { return c.asked.Load() }

// Close ends it and its connections.
func (c *Cluster) Close() {
	_ = c.server.Close() // what is cut is its own
	c.work.Wait()
}

func (c *Cluster) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/info", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{
			"nodeVersion": map[string]string{"version": Version}, "environment": "sandbox", "coordinator": true, "starting": c.starting.Load(), "uptime": "1.00m",
		})
	})
	mux.HandleFunc("POST /v1/statement", c.post)
	mux.HandleFunc("GET /v1/statement/{id}/{token}", c.next)
	mux.HandleFunc("DELETE /v1/statement/{id}/{token}", c.cancel)
	return mux
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client is gone, or it is not
}

// maxStatement bounds the text of a query.
const maxStatement = 64 << 10

func (c *Cluster) post(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Trino-User") == "" {
		http.Error(w, "User must be set", http.StatusUnauthorized)
		return
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxStatement))
	if err != nil {
		http.Error(w, "SQL statement is too long", http.StatusBadRequest)
		return
	}
	c.asked.Add(1)
	id := time.Now().UTC().Format("20060102_150405_00000_") + strings.ToLower(rand.Text()[:5])
	q := c.parse(string(text))
	c.mu.Lock()
	full := len(c.queries) >= maxQueries
	if !full {
		c.queries[id] = q
	}
	c.mu.Unlock()
	if full {
		http.Error(w, "Too many queued queries", http.StatusServiceUnavailable)
		return
	}
	answer(w, result(r, id, "QUEUED", next(r, id, 1)))
}

var (
	integer = regexp.MustCompile(`(?i)^\s*select\s+(-?\d{1,18})\s*;?\s*$`)
	catalog = regexp.MustCompile(`(?i)^\s*select\s+current_catalog\s*;?\s*$`)
	counted = regexp.MustCompile(`(?i)^\s*select\s+\*\s+from\s+unnest\s*\(\s*sequence\s*\(\s*1\s*,\s*(\d{1,5})\s*\)\s*\)\s*;?\s*$`)
)

// parse understands SELECT of a number, SELECT current_catalog, and SELECT *
// FROM UNNEST(SEQUENCE(1, n)), which has several pages.
func (c *Cluster) parse(sql string) *query {
	switch {
	case integer.MatchString(sql):
		n, _ := strconv.ParseInt(integer.FindStringSubmatch(sql)[1], 10, 64) // of digits
		return &query{column: "_col0", kind: "integer", values: []any{n}, token: 1}
	case catalog.MatchString(sql):
		return &query{column: "_col0", kind: "varchar", values: []any{c.name}, token: 1}
	case counted.MatchString(sql):
		q := &query{column: "_col0", kind: "bigint", token: 1}
		most, _ := strconv.Atoi(counted.FindStringSubmatch(sql)[1]) // of digits
		for n := range most {
			q.values = append(q.values, n+1)
		}
		return q
	}
	return &query{error: "the sandbox's cluster runs SELECT of a number, SELECT current_catalog and SELECT * FROM UNNEST(SEQUENCE(1, n))", token: 1}
}

// pageRows is how many rows a page has.
const pageRows = 1000

// next answers one page. A page may be asked for again until the one behind it
// was asked for, as Trino's clients do after a failure.
func (c *Cluster) next(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	token, err := strconv.Atoi(r.PathValue("token"))
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.queries[id]
	if q == nil || err != nil || token != q.token && token != q.token-1 || token < 1 {
		http.Error(w, "Query not found", http.StatusNotFound)
		return
	}
	q.token = token + 1
	if q.error != "" {
		delete(c.queries, id)
		res := result(r, id, "FAILED", "")
		res["error"] = map[string]any{
			"message": q.error, "errorCode": 1, "errorName": "SYNTAX_ERROR", "errorType": "USER_ERROR",
			"failureInfo": map[string]any{"type": "io.trino.sql.parser.ParsingException", "message": q.error},
		}
		answer(w, res)
		return
	}
	from := (token - 1) * pageRows
	rows := q.values[min(from, len(q.values)):min(from+pageRows, len(q.values))]
	state, more := "RUNNING", next(r, id, token+1)
	if len(rows) == 0 { // the client has everything
		state, more = "FINISHED", ""
		delete(c.queries, id)
	}
	res := result(r, id, state, more)
	res["columns"] = []any{map[string]any{
		"name": q.column, "type": q.kind, "typeSignature": map[string]any{"rawType": q.kind, "arguments": arguments(q.kind)},
	}}
	if len(rows) > 0 {
		data := make([][]any, len(rows))
		for i, v := range rows {
			data[i] = []any{v}
		}
		res["data"] = data
	}
	answer(w, res)
}

// arguments are those of a type's signature.
func arguments(kind string) []any {
	if kind == "varchar" {
		return []any{map[string]any{"kind": "LONG", "value": 2147483647}}
	}
	return []any{}
}

func (c *Cluster) cancel(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	delete(c.queries, r.PathValue("id"))
	c.mu.Unlock()
	w.WriteHeader(http.StatusNoContent)
}

// next is where a client asks for a page: at the name and port by which it
// came, as a coordinator answers that has no other configured.
func next(r *http.Request, id string, token int) string {
	return fmt.Sprintf("https://%s/v1/statement/%s/%d", r.Host, id, token)
}

func result(r *http.Request, id, state, nextURI string) map[string]any {
	res := map[string]any{
		"id": id, "infoUri": "https://" + r.Host + "/ui/query.html?" + id, "warnings": []any{},
		"stats": map[string]any{
			"state": state, "queued": state == "QUEUED", "scheduled": state != "QUEUED", "nodes": 1, "totalSplits": 1, "queuedSplits": 0, "runningSplits": 0,
			"completedSplits": 1, "cpuTimeMillis": 0, "wallTimeMillis": 0, "queuedTimeMillis": 0, "elapsedTimeMillis": 0,
			"processedRows": 0, "processedBytes": 0, "physicalInputBytes": 0, "peakMemoryBytes": 0, "spilledBytes": 0,
		},
	}
	if nextURI != "" {
		res["nextUri"] = nextURI
	}
	return res
}
