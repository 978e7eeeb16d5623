package localaws

import (
	"encoding/json"
	"net/http"
)

// AdminHeader must be present in requests below /_localaws/, with any value:
// no web page can send it unasked.
const AdminHeader = "X-Localaws-Admin"

// register serves the switchboard by HTTP:
//
//	POST   /_localaws/faults            a [Fault]; answers it with its id
//	GET    /_localaws/faults            the rules in force
//	DELETE /_localaws/faults            removes all, releases every held call
//	DELETE /_localaws/faults/{id}
//	GET    /_localaws/calls             the last calls, oldest first
//	GET    /_localaws/paused            the held ones
//	POST   /_localaws/paused/{id}/release
func (f *Faults) register(mux *http.ServeMux) {
	route := func(pattern string, handle func(*http.Request) (any, int)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			body, status := any(map[string]string{"error": "the header " + AdminHeader + " is missing"}), http.StatusForbidden
			if r.Header.Get(AdminHeader) != "" {
				r.Body = http.MaxBytesReader(w, r.Body, maxBody)
				body, status = handle(r)
			}
			if body == nil {
				w.WriteHeader(status)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(body) // fails only when the client is gone
		})
	}
	found := func(ok bool) (any, int) {
		if !ok {
			return map[string]string{"error": "no such id"}, http.StatusNotFound
		}
		return nil, http.StatusNoContent
	}
	route("POST /_localaws/faults", f.post)
	route("GET /_localaws/faults", func(*http.Request) (any, int) { return f.List(), http.StatusOK })
	route("DELETE /_localaws/faults", func(*http.Request) (any, int) { f.Clear(); return nil, http.StatusNoContent })
	route("DELETE /_localaws/faults/{id}", func(r *http.Request) (any, int) { return found(f.Remove(r.PathValue("id"))) })
	route("GET /_localaws/calls", func(*http.Request) (any, int) { return f.Calls(), http.StatusOK })
	route("GET /_localaws/paused", func(*http.Request) (any, int) { return append([]Call{}, f.Paused()...), http.StatusOK })
	route("POST /_localaws/paused/{id}/release", func(r *http.Request) (any, int) { return found(f.Release(r.PathValue("id"))) })
}

func (f *Faults) post(r *http.Request) (any, int) {
	var rule Fault
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(&rule)
	if err == nil {
		rule.ID, err = f.Add(rule)
	}
	if err != nil {
		return map[string]string{"error": err.Error()}, http.StatusBadRequest
	}
	return rule, http.StatusCreated
}
