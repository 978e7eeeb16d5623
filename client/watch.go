package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Events lists the record after a sequence number, oldest first.
func (c *Client) Events(ctx context.Context, organization string, after int64) ([]Event, error) {
	return listAll[Event](ctx, c, "/v1/events", query("organization", organization, "after", strconv.FormatInt(after, 10)))
}

// WatchEvents calls each for every event after a sequence number as it
// happens, until ctx ends, each returns false, or the stream breaks: then it
// returns an error, and the caller goes on from the last Seq it saw.
func (c *Client) WatchEvents(ctx context.Context, organization string, after int64, each func(Event) bool) error {
	q := query("organization", organization, "after", strconv.FormatInt(after, 10))
	whole := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := c.send(ctx, http.MethodGet, "/v1/events/watch", q, http.Header{"Accept": {"text/event-stream"}}, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return problemOf(resp)
	}
	silence := time.AfterFunc(watchSilence, func() { cancel(errSilent) })
	defer silence.Stop()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 4096), 1<<20)
	for lines.Scan() {
		silence.Reset(watchSilence)
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		if !ok {
			continue
		}
		var e Event
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("decode an event: %w", err)
		}
		if !each(e) {
			return nil
		}
	}
	err = lines.Err()
	switch {
	case whole.Err() != nil:
		return whole.Err()
	case errors.Is(context.Cause(ctx), errSilent):
		err = errSilent
	case err == nil:
		err = errEnded
	}
	return fmt.Errorf("watch events: %w", err)
}

// watchSilence is three times as long as the server is ever silent: the
// connection is dead, and nobody said so.
const watchSilence = 45 * time.Second

var (
	errSilent = errors.New("the server fell silent")
	errEnded  = errors.New("the server ended the stream")
)
