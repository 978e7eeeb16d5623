package scim

import (
	"net"
	"sync"
)

// queue is the listener of the HTTP server: it gives out the connections of
// which TLS is established.
type queue struct {
	conns  chan net.Conn
	done   chan struct{}
	ending sync.Once
}

func newQueue() *queue { return &queue{conns: make(chan net.Conn), done: make(chan struct{})} }

func (q *queue) put(c net.Conn) {
	select {
	case q.conns <- c:
	case <-q.done:
		_ = c.Close() // nobody is there to serve it
	}
}

// Accept waits for the next connection.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close ends the queue.
func (q *queue) Close() error { q.close(); return nil }

func (q *queue) close() { q.ending.Do(func() { close(q.done) }) }

// Addr is no address: connections come from several listeners.
func (q *queue) Addr() net.Addr { return &net.TCPAddr{} }
