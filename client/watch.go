package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
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
	resp, err := c.send(ctx, http.MethodGet, "/v1/events/watch", q, http.Header{"Accept": {"text/event-stream"}}, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return problemOf(resp)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 4096), 1<<20)
	for lines.Scan() {
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
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("watch events: %w", err)
	}
	return fmt.Errorf("watch events: %s", strings.TrimSpace("the server ended the stream"))
}
