package clienthello_test

import (
	"crypto/tls"
	"errors"
	"testing"

	"github.com/postern-net/postern/internal/clienthello"
)

// spread puts a message into a given number of records: one byte in each but
// the last.
func spread(hello []byte, recordCount int) []byte {
	return refragment(hello, count(recordCount-1)...)
}

func TestRecordsAreBounded(t *testing.T) {
	t.Parallel()
	b := clientHello(t, &tls.Config{ServerName: "a.example"})
	h, _, err := clienthello.Parse(spread(b, clienthello.MaxRecords))
	if err != nil || h.ServerName != "a.example" {
		t.Errorf("over %d records: %+v, %v", clienthello.MaxRecords, h, err)
	}
	in := spread(b, clienthello.MaxRecords+1)
	if _, _, err := clienthello.Parse(in); !errors.Is(err, clienthello.ErrMalformed) {
		t.Errorf("over %d records: %v", clienthello.MaxRecords+1, err)
	}
	// That is told as soon as the last record allowed starts, not at the end.
	if _, _, err := clienthello.Parse(in[:6*(clienthello.MaxRecords-1)+5]); !errors.Is(err, clienthello.ErrMalformed) {
		t.Errorf("the first bytes of it: %v", err)
	}
}

// However a client cuts its hello up, a reader that waits for what is needed
// parses a few times only, and nothing is allocated before the end.
func TestWorkIsBounded(t *testing.T) {
	t.Parallel()
	b := clientHello(t, clients()["many protocols"])
	for _, tc := range []struct {
		name string
		in   []byte
		most int // calls
	}{
		{"one record", b, 4},
		{"two records", refragment(b, len(b)/2), 5},
		{"two records, a byte first", spread(b, 2), 5},
		{"all records allowed", spread(b, clienthello.MaxRecords), clienthello.MaxRecords + 3},
		{"a record per byte", spread(b, len(b)-5), clienthello.MaxRecords + 3},
	} {
		calls, need := 0, 0
		for n := range len(tc.in) + 1 { // the client sends byte after byte
			if n < need {
				continue
			}
			calls++
			var err error
			_, need, err = clienthello.Parse(tc.in[:n])
			if !errors.Is(err, clienthello.ErrIncomplete) {
				break
			}
		}
		if calls > tc.most {
			t.Errorf("%s: parsed %d times, want %d at most", tc.name, calls, tc.most)
		}
	}
}

func TestParseAllocatesLittle(t *testing.T) {
	b := clientHello(t, clients()["many protocols"])
	cut := b[:len(b)-1]
	if n := testing.AllocsPerRun(100, func() { _, _, _ = clienthello.Parse(cut) }); n != 0 {
		t.Errorf("%v allocations for a hello that is not complete", n)
	}
	// The name; and whatever the protocols are, nothing for them.
	if n := testing.AllocsPerRun(100, func() { _, _, _ = clienthello.Parse(b) }); n > 2 {
		t.Errorf("%v allocations for a hello with 60 protocols", n)
	}
}
