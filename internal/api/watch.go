package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/client"
	"github.com/postern-net/postern/internal/store"
)

const (
	// watchPing is how often a quiet watch says that it lives, and its token
	// is looked at again: a revoked one loses the watch within this time.
	watchPing = 15 * time.Second
	// watchLifetime ends a watch, so that connections move to the servers
	// that are there; the client goes on from the last seq it saw.
	watchLifetime = 15 * time.Minute
	// watchWrite bounds one write to a client that does not read.
	watchWrite = 5 * time.Second
)

type watchInput struct {
	Organization string `query:"organization" maxLength:"63" doc:"Only this organization's"`
	After        int64  `query:"after" minimum:"0" doc:"Only events with a greater seq"`
	LastEventID  int64  `header:"Last-Event-ID" minimum:"0" doc:"The same, as browsers send it when they connect again; it counts before after"`
}

func (s *Server) watchRoute() {
	op := s.operation(spec{id: "watch-events", method: http.MethodGet, path: "/v1/events/watch", roles: readers, summary: "Events as they happen (Server-Sent Events)"})
	op.Responses = map[string]*huma.Response{"200": {
		Description: "A stream of server-sent events; the data of each is one event",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[client.Event](), true, "Event")}},
	}}
	huma.Register(s.api, op, func(_ context.Context, in *watchInput) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, w := humago.Unwrap(hc)
			s.watchEvents(hc.Context(), in, stream{w: w, rc: http.NewResponseController(w)}, r.Header.Get("Authorization"))
		}}, nil
	})
}

// watchEvents streams until the client goes, the token ends, or the watch has
// lasted long enough.
func (s *Server) watchEvents(ctx context.Context, in *watchInput, out stream, authorization string) {
	organization, ok := scope(identityOf(ctx), in.Organization)
	wake, cancel := s.Store.Subscribe()
	defer cancel()
	ctx, stop := context.WithTimeout(ctx, watchLifetime)
	defer stop()
	ping := time.NewTicker(watchPing)
	defer ping.Stop()
	if out.open() != nil {
		return
	}
	known := time.Now() // when the token was last looked at
	for after := max(in.After, in.LastEventID); ; {
		var rows []postern.Event
		if ok { // nothing ever happens in another's organization, as in one that is not there
			if err := s.Store.View(ctx, func(tx *store.Tx) (err error) {
				rows, err = tx.ListEvents(organization, after, watchBatch)
				return err
			}); err != nil {
				return
			}
		}
		for _, e := range rows {
			if time.Since(known) > watchPing { // the client takes its time
				if _, err := s.authenticate(ctx, authorization); err != nil {
					return
				}
				known = time.Now()
			}
			if out.event(e.Seq, wireEvent(e)) != nil {
				return
			}
			after = e.Seq
		}
		if len(rows) == watchBatch {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-ping.C:
			if _, err := s.authenticate(ctx, authorization); err != nil || out.ping() != nil {
				return
			}
			known = time.Now()
		}
	}
}

// watchBatch is how many events are read at once.
const watchBatch = 500

// stream writes server-sent events (WHATWG HTML, 9.2), each at once.
type stream struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// open sends the header: a client knows that it watches before anything
// happens. The server's limit on reading a request does not concern it.
func (o stream) open() error {
	o.w.Header().Set("Content-Type", "text/event-stream")
	if err := o.rc.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	return o.write(": watching\n\n")
}

func (o stream) ping() error { return o.write(": ping\n\n") }

func (o stream) event(id int64, data any) error {
	b, err := json.Marshal(data) // holds no line break
	if err != nil {
		return err
	}
	return o.write(fmt.Sprintf("id: %d\ndata: %s\n\n", id, b))
}

func (o stream) write(text string) error { return o.writeWithin(text, watchWrite) }

func (o stream) writeWithin(text string, limit time.Duration) error {
	if err := o.rc.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := io.WriteString(o.w, text); err != nil {
		return err
	}
	if err := o.rc.Flush(); err != nil {
		return err
	}
	// Over HTTP/2 a deadline ends the stream also where nothing is written: the
	// next one is set before it. What ends a stream is within it, too.
	return o.rc.SetWriteDeadline(time.Now().Add(watchPing + limit))
}
