package relay

import (
	"slices"
	"sync"
	"time"

	"github.com/postern-net/postern/internal/clienthello"
	"github.com/postern-net/postern/internal/proxyproto"
)

const (
	// smallSize holds what a client sends first, nearly always: the PROXY
	// header of 100 bytes and a post-quantum ClientHello of 1.8 KB. Clients
	// that send slowly cost no more than this.
	smallSize = 4 << 10
	// largeSize is the relay's unit. It holds the largest header and hello
	// that are taken: before it is full, the parsers have decided.
	largeSize = 36 << 10
)

// It does not compile where largeSize is too small for that.
const _ = uint(largeSize - proxyproto.MaxSize - clienthello.MaxSize)

// The pools hold memory only; what is in a buffer never outlives its use.
var (
	smallPool = sync.Pool{New: func() any { return new([smallSize]byte) }}
	largePool = sync.Pool{New: func() any { return new([largeSize]byte) }}
)

// buffer is memory on loan from a pool. The zero buffer is empty.
type buffer struct {
	bytes []byte
	small *[smallSize]byte
	large *[largeSize]byte
}

func smallBuffer() buffer {
	p := smallPool.Get().(*[smallSize]byte)
	return buffer{bytes: p[:], small: p}
}

func largeBuffer() buffer {
	p := largePool.Get().(*[largeSize]byte)
	return buffer{bytes: p[:], large: p}
}

// grow goes over to a large buffer, keeping the first n bytes.
func (b *buffer) grow(n int) {
	l := largeBuffer()
	copy(l.bytes, b.bytes[:n])
	b.free()
	*b = l
}

// free gives the memory back. It may be called again.
func (b *buffer) free() {
	if b.small != nil {
		smallPool.Put(b.small)
	}
	if b.large != nil {
		largePool.Put(b.large)
	}
	*b = buffer{}
}

// larges are the sessions whose hello needs a large buffer and is not complete,
// oldest first.
type larges struct {
	mu  sync.Mutex
	all []*session
}

// add gives a session the right to a large buffer. When many have one already,
// the oldest is given up.
func (l *larges) add(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.all) >= maxUnheard/largeSize {
		oldest := l.all[0]
		l.all = slices.Delete(l.all, 0, 1)
		oldest.givenUp.Store(true)
		_ = oldest.client.SetReadDeadline(time.Unix(1, 0)) // its read ends now; closed, it has
	}
	l.all = append(l.all, s)
}

func (l *larges) remove(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.all, s); i >= 0 {
		l.all = slices.Delete(l.all, i, i+1)
	}
}
