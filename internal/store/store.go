// Package store keeps the desired state and what was last observed: one schema
// over database/sql, in a SQLite file.
//
// Every write is one transaction that holds the rows and their event; a
// transaction that returned without error is on disk. Writers are serialized,
// so a transaction sees nothing change under it; readers never wait for them.
package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"sync"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the database/sql driver, without cgo

	"github.com/postern-net/postern"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Store is an open database. It is safe for concurrent use.
type Store struct {
	write *sql.DB // one connection: SQLite has one writer
	read  *sql.DB

	mu   sync.Mutex
	subs map[chan struct{}]bool
}

// Open opens the database file, creates it where there is none, and brings
// its schema up to date.
func Open(ctx context.Context, path string) (*Store, error) {
	if err := create(path); err != nil {
		return nil, fmt.Errorf("open the database %s: %w", path, err)
	}
	write, err := open(path, "immediate")
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	if err := migrate(ctx, write); err != nil {
		return nil, errors.Join(fmt.Errorf("open the database %s: %w", path, err), write.Close())
	}
	read, err := open(path, "deferred", "query_only(1)")
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(4)
	return &Store{write: write, read: read, subs: map[chan struct{}]bool{}}, nil
}

// create makes the file for its owner alone where there is none; SQLite gives
// the files beside it the same mode.
func create(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// open sets what makes a commit durable: a write-ahead log that is synced at
// each commit, and foreign keys that are enforced.
func open(path, lock string, more ...string) (*sql.DB, error) {
	pragmas := append([]string{"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"}, more...)
	q := url.Values{"_txlock": {lock}, "_pragma": pragmas}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("open the database %s: %w", path, err)
	}
	return db, nil
}

func migrate(ctx context.Context, db *sql.DB) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, db, dir)
	if err != nil {
		return fmt.Errorf("read the migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// Close closes the database.
func (s *Store) Close() error { return errors.Join(s.read.Close(), s.write.Close()) }

// Tx is one transaction. Its methods return *postern.Error for what a caller
// can cause (not_found, conflict) and plain errors for what the database does.
type Tx struct {
	ctx      context.Context //nolint:containedctx // a Tx lives for one call of View or Update, whose context it is
	tx       *sql.Tx
	recorded bool // an event was appended
	wake     bool // or something else that subscribers wait for was written
}

// View runs fn on one consistent state of the database.
func (s *Store) View(ctx context.Context, fn func(*Tx) error) error {
	tx, err := s.read.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin a read: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // a read has nothing to lose
	return fn(&Tx{ctx: ctx, tx: tx})
}

// Update runs fn in one transaction: all of its writes are on disk when Update
// returns nil, and none of them when it returns an error or fn panics.
func (s *Store) Update(ctx context.Context, fn func(*Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin a write: %w", err)
	}
	// After a commit it does nothing. A transaction that a panic left open
	// would keep the only writer's connection for ever.
	defer func() { _ = tx.Rollback() }()
	t := &Tx{ctx: ctx, tx: tx}
	if err := fn(t); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	if t.recorded || t.wake {
		s.notify()
	}
	return nil
}

// Subscribe returns a channel that receives after writes that appended an
// event, as every change of state does, and when a node has applied another
// revision. It holds one wake-up at most: a receiver must read the state, not
// count. Cancel frees it.
func (s *Store) Subscribe() (wake <-chan struct{}, cancel func()) {
	ch := make(chan struct{}, 1)
	s.mu.Lock()
	s.subs[ch] = true
	s.mu.Unlock()
	return ch, func() {
		s.mu.Lock()
		delete(s.subs, ch)
		s.mu.Unlock()
	}
}

func (s *Store) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ch := range s.subs {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// exec runs a statement and tells how many rows it touched.
func (t *Tx) exec(query string, args ...any) (int64, error) {
	res, err := t.tx.ExecContext(t.ctx, query, args...)
	if err != nil {
		return 0, fmt.Errorf("write: %w", err)
	}
	return res.RowsAffected()
}

// list runs a query and scans every row.
func list[T any](t *Tx, scan func(row) (T, error), query string, args ...any) ([]T, error) {
	rows, err := t.tx.QueryContext(t.ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("read a row: %w", err)
		}
		out = append(out, v)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return out, nil
}

// find scans the one row of a query, or returns not_found.
func find[T any](t *Tx, kind, id string, scan func(row) (T, error), query string, args ...any) (T, error) {
	v, err := scan(t.tx.QueryRowContext(t.ctx, query, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return v, postern.NotFound(kind, id)
	}
	if err != nil {
		return v, fmt.Errorf("read %s: %w", kind, err)
	}
	return v, nil
}

type row interface{ Scan(...any) error }

// changed turns "no row had that version" into a conflict.
func changed(n int64, err error, kind, id string) error {
	if err != nil {
		return err
	}
	if n == 0 {
		return &postern.Error{
			Code: postern.CodeConflict, Message: fmt.Sprintf("%s %q was changed meanwhile", kind, id),
			Fix: "read it again and repeat the change",
		}
	}
	return nil
}

// exists makes the conflict for a key that is taken.
func exists(field, kind, id, fix string) error {
	return &postern.Error{
		Code: postern.CodeConflict, Field: field, Value: id,
		Message: "this " + kind + " is there already", Fix: fix,
	}
}
