package nodelink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/postern-net/postern"
)

// Message is one line of the stream to a node. Exactly one field is set.
type Message struct {
	Snapshot *postern.Routes `json:"snapshot,omitempty" doc:"The whole table"`
	Delta    *Delta          `json:"delta,omitempty" doc:"What leads to the next table"`
	Fenced   *Fence          `json:"fenced,omitempty" doc:"The node was fenced: it refuses everything from now on"`
	Ping     *Ping           `json:"ping,omitempty" doc:"Nothing is new"`
}

// Fence tells a node that it was fenced.
type Fence struct {
	Reason string `json:"reason"` // for its log
}

// Ping says that the stream lives, and which revision is current.
type Ping struct {
	Revision int64 `json:"revision"`
}

const (
	// MaxMessage bounds one message, in bytes: the snapshot of a platform with
	// some hundred thousand hosts.
	MaxMessage = 64 << 20
	// PingEvery is how often a quiet stream says that it lives.
	PingEvery = 10 * time.Second
	// Quiet is how long a node waits for the next message before it takes the
	// stream for dead.
	Quiet = 30 * time.Second
)

// ParseMessage reads one line of the stream: a message with exactly one known
// field, and nothing else.
func ParseMessage(line []byte) (Message, error) {
	if len(line) > MaxMessage {
		return Message{}, fmt.Errorf("nodelink: a message of %d bytes is larger than %d", len(line), MaxMessage)
	}
	var m Message
	if err := decodeStrict(line, &m); err != nil {
		return Message{}, fmt.Errorf("nodelink: not a message: %w", err)
	}
	set := 0
	for _, is := range []bool{m.Snapshot != nil, m.Delta != nil, m.Fenced != nil, m.Ping != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		return Message{}, fmt.Errorf("nodelink: a message that says %d things instead of one", set)
	}
	return m, nil
}

// decodeStrict decodes one JSON value; an unknown key and anything after it are
// errors.
func decodeStrict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value")
	}
	return nil
}
