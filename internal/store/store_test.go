package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// open opens a new database that is closed with the test.
func open(t *testing.T) *store.Store {
	t.Helper()
	return openFile(t, filepath.Join(t.TempDir(), "postern.db"))
}

func openFile(t *testing.T, path string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// update runs one transaction that must succeed.
func update(t *testing.T, s *store.Store, fn func(*store.Tx) error) {
	t.Helper()
	if err := s.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func view(t *testing.T, s *store.Store, fn func(*store.Tx) error) {
	t.Helper()
	if err := s.View(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

// wantCode checks that a transaction fails with a code of the domain.
func wantCode(t *testing.T, s *store.Store, want postern.Code, fn func(*store.Tx) error) {
	t.Helper()
	err := s.Update(t.Context(), fn)
	var e *postern.Error
	if !errors.As(err, &e) || e.Code != want {
		t.Errorf("got %v, want an error of the domain with code %s", err, want)
	}
}

// twoCustomers creates Example Corp with two tenants and an account, and
// Globex with one of each.
func twoCustomers(t *testing.T, s *store.Store) {
	t.Helper()
	update(t, s, func(tx *store.Tx) error {
		var errs []error
		for _, id := range []string{"example-corp", "globex"} {
			_, err := tx.CreateOrganization(postern.Organization{ID: id, Title: "T " + id, CreatedAt: noon})
			errs = append(errs, err)
		}
		for _, v := range []postern.Tenant{
			{Name: "example", Organization: "example-corp", Region: "us-east-1", CreatedAt: noon},
			{Name: "example-dev", Organization: "example-corp", Region: "us-west-2", CreatedAt: noon},
			{Name: "globex", Organization: "globex", Region: "us-east-1", CreatedAt: noon},
		} {
			_, err := tx.CreateTenant(v)
			errs = append(errs, err)
		}
		for account, organization := range map[string]string{"111111111111": "example-corp", "222222222222": "globex"} {
			_, err := tx.ProveAccount(postern.Account{ID: account, Organization: organization, PrincipalARN: "arn:aws:iam::" + account + ":user/a", ProvenAt: noon})
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

func TestOpenTakesAnyFileName(t *testing.T) {
	for _, name := range []string{"a b.db", "50%.db", "what?.db", "number#1.db", "Größe.db"} {
		path := filepath.Join(t.TempDir(), name)
		s := openFile(t, path)
		twoCustomers(t, s)
		info, err := os.Stat(path)
		if err != nil {
			t.Errorf("the file has another name: %v", err)
			continue
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("%s has mode %v: others may read it", name, got)
		}
	}
}

func TestOpenRefusesWhatIsNoDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "postern.db")
	if err := os.WriteFile(path, []byte("this is a text file, long enough to have a header of its own, and no database at all"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := store.Open(t.Context(), path); err == nil {
		t.Error("it was opened", s.Close())
	}
	if s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "no", "such", "dir.db")); err == nil {
		t.Error("a file in no folder was opened", s.Close())
	}
}

func TestFailedUpdateLeavesNothing(t *testing.T) {
	s := open(t)
	wake, cancel := s.Subscribe()
	defer cancel()
	broken := errors.New("broken")
	err := s.Update(t.Context(), func(tx *store.Tx) error {
		_, err := tx.CreateOrganization(postern.Organization{ID: "o", CreatedAt: noon})
		return errors.Join(err, tx.AppendEvent(postern.Event{At: noon, Action: "a"}), broken)
	})
	if !errors.Is(err, broken) {
		t.Fatalf("got %v, want the error that fn returned", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	if err := s.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.CreateOrganization(postern.Organization{ID: "o", CreatedAt: noon})
		stop()
		return errors.Join(err, tx.AppendEvent(postern.Event{At: noon, Action: "a"}))
	}); err == nil {
		t.Error("an update whose context ended before the commit succeeded")
	}
	view(t, s, func(tx *store.Tx) error {
		os, err := tx.ListOrganizations("", store.Page{})
		es, err2 := tx.ListEvents("", 0, 10)
		if len(os)+len(es) > 0 {
			t.Errorf("left behind: %v %v", os, es)
		}
		return errors.Join(err, err2)
	})
	select {
	case <-wake:
		t.Error("a failed update wakes")
	default:
	}
}

func TestPanicInUpdateLeavesNothingAndBlocksNobody(t *testing.T) {
	s := open(t)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = s.Update(t.Context(), func(tx *store.Tx) error {
			_, err := tx.CreateOrganization(postern.Organization{ID: "o", CreatedAt: noon})
			panic(err)
		})
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.Update(ctx, func(tx *store.Tx) error {
		_, err := tx.CreateOrganization(postern.Organization{ID: "o", CreatedAt: noon})
		return err
	}); err != nil {
		t.Errorf("after a panic: %v", err)
	}
}

func TestViewCannotWrite(t *testing.T) {
	s := open(t)
	if err := s.View(t.Context(), func(tx *store.Tx) error {
		_, err := tx.CreateOrganization(postern.Organization{ID: "o", CreatedAt: noon})
		return err
	}); err == nil {
		t.Error("a view wrote")
	}
}

func TestViewSeesOneStateAndDoesNotWaitForWriters(t *testing.T) {
	s := open(t)
	twoCustomers(t, s)
	count := func(tx *store.Tx) int {
		os, err := tx.ListOrganizations("", store.Page{})
		if err != nil {
			t.Error(err)
		}
		return len(os)
	}
	update(t, s, func(tx *store.Tx) error {
		if _, err := tx.CreateOrganization(postern.Organization{ID: "third", CreatedAt: noon}); err != nil {
			return err
		}
		view(t, s, func(reader *store.Tx) error { // while the writer is at work
			if got := count(reader); got != 2 {
				t.Errorf("a reader sees %d organizations before the commit", got)
			}
			return nil
		})
		return nil
	})
	view(t, s, func(reader *store.Tx) error {
		before := count(reader)
		update(t, s, func(tx *store.Tx) error {
			_, err := tx.CreateOrganization(postern.Organization{ID: "fourth", CreatedAt: noon})
			return err
		})
		if after := count(reader); after != before {
			t.Errorf("a reader saw %d, then %d organizations", before, after)
		}
		return nil
	})
}

func TestSubscribersWakeAfterEventsOnly(t *testing.T) {
	s := open(t)
	wake, cancel := s.Subscribe()
	other, cancelOther := s.Subscribe()
	defer cancelOther()
	woken := func(ch <-chan struct{}) bool {
		select {
		case <-ch:
			return true
		default:
			return false
		}
	}
	update(t, s, func(tx *store.Tx) error {
		_, err := tx.CreateOrganization(postern.Organization{ID: "o", CreatedAt: noon})
		return err
	})
	if woken(wake) {
		t.Error("a write without an event wakes")
	}
	event := func(tx *store.Tx) error { return tx.AppendEvent(postern.Event{At: noon, Action: "a"}) }
	update(t, s, event)
	update(t, s, event) // does not block although nobody received the first
	if !woken(wake) || !woken(other) {
		t.Error("an event does not wake every subscriber")
	}
	if woken(wake) {
		t.Error("two events leave two wake-ups")
	}
	cancel()
	update(t, s, event)
	if woken(wake) {
		t.Error("a cancelled subscription wakes")
	}
}

func TestWritersAreSerialized(t *testing.T) {
	s := open(t)
	var inside, most atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := s.Update(t.Context(), func(tx *store.Tx) error {
				most.Store(max(most.Load(), inside.Add(1)))
				defer inside.Add(-1)
				return tx.AppendEvent(postern.Event{At: noon, Action: "a"})
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() != 1 {
		t.Errorf("%d transactions wrote at once", most.Load())
	}
	view(t, s, func(tx *store.Tx) error {
		es, err := tx.ListEvents("", 0, 100)
		for i, e := range es {
			if e.Seq != int64(i+1) {
				t.Errorf("event %d has seq %d", i, e.Seq)
			}
		}
		if len(es) != 8 {
			t.Errorf("%d events of 8", len(es))
		}
		return err
	})
}

func TestReopenKeepsEverything(t *testing.T) {
	path := filepath.Join(t.TempDir(), "postern.db")
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	twoCustomers(t, s)
	update(t, s, func(tx *store.Tx) error {
		_, err := tx.CreateEndpoint(exampleEndpoint())
		_, err2 := tx.CreateToken(postern.Token{ID: "tok_1", Name: "n", Role: postern.RoleAdmin, CreatedAt: noon}, []byte("hash"))
		return errors.Join(err, err2, tx.AppendEvent(postern.Event{At: noon, Action: "a"}), tx.SaveRoutes(postern.Routes{Revision: 7}))
	})
	before := dump(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	after := dump(t, openFile(t, path))
	if before != after {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}
