package cli_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/postern-net/postern/client"
)

// What a deletion takes along is accepted by name, and the API is told so.
func TestTenantDeleteTellsWhatIsAccepted(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete {
			asked <- r.URL.RequestURI()
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(client.Tenant{ID: "example"})
	}))
	defer srv.Close()
	term := &terminal{env: map[string]string{"POSTERN_API": srv.URL, "POSTERN_TOKEN": "x"}}
	if status := term.run(t.Context(), "tenant", "delete", "example", "--acknowledge", "request", "--acknowledge", "other"); status != 0 {
		t.Fatalf("ended with %d: %s", status, term.err.String())
	}
	if got, want := <-asked, "/v1/tenants/example?acknowledge=request%2Cother"; got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
}
