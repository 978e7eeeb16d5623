package serve

import (
	"encoding/json"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/postern-net/postern/internal/store"
)

// adminHandler serves what the vendor's own machines ask: /healthz (the
// process lives), /readyz (it can do its work) and /metrics.
func (s *Server) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answerHealth(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		status, body := http.StatusOK, map[string]string{"status": "ok"}
		if s.store != nil {
			if err := s.store.View(r.Context(), func(tx *store.Tx) error { _, err := tx.RoutesRevision(); return err }); err != nil {
				status, body = http.StatusServiceUnavailable, map[string]string{"status": "not ready", "database": "does not answer; see the log"}
				s.options.Logger.Error("not ready", "error", err)
			}
		}
		if s.node != nil {
			if n := s.node.Status(); !n.InForce {
				status, body["status"] = http.StatusServiceUnavailable, "not ready"
				body["node"] = "has no routes yet and refuses everything"
				if n.Fenced {
					body["node"] = "is fenced and refuses everything"
				}
			}
		}
		answerHealth(w, status, body)
	})
	return mux
}

func answerHealth(w http.ResponseWriter, status int, body map[string]string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone, or it is not
}
