package nodelink

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/postern-net/postern"
)

// cached is the file that a node keeps its table in. The sum tells a file that
// the disk or a person changed.
type cached struct {
	Format int            `json:"format"` // 1
	Sum    string         `json:"sum"`
	Routes postern.Routes `json:"routes"`
}

const cacheFormat = 1

// loadCache reads the table that was kept last; false: there is none.
func loadCache(path string) (postern.Routes, bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return postern.Routes{}, false, nil
	}
	if err != nil {
		return postern.Routes{}, false, fmt.Errorf("nodelink: read the kept routes: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxMessage+1))
	if err != nil {
		return postern.Routes{}, false, fmt.Errorf("nodelink: read the kept routes: %w", err)
	}
	r, err := parseCache(b)
	return r, err == nil, err
}

func parseCache(b []byte) (postern.Routes, error) {
	var c cached
	switch err := decodeStrict(b, &c); {
	case len(b) > MaxMessage:
		return postern.Routes{}, errors.New("nodelink: the kept routes are too large to be a table")
	case err != nil:
		return postern.Routes{}, fmt.Errorf("nodelink: the kept routes are damaged: %w", err)
	case c.Format != cacheFormat:
		return postern.Routes{}, fmt.Errorf("nodelink: the kept routes have format %d, want %d", c.Format, cacheFormat)
	case c.Routes.Revision < 1 || c.Sum != Sum(c.Routes):
		return postern.Routes{}, errors.New("nodelink: the kept routes are not what was written")
	}
	return c.Routes, nil
}

// saveCache replaces the kept table, whole or not at all. When it returns nil,
// a crash of the machine does not bring an earlier one back.
func saveCache(path string, r postern.Routes) error {
	b, err := json.Marshal(cached{Format: cacheFormat, Sum: Sum(r), Routes: r})
	if err != nil {
		return fmt.Errorf("nodelink: keep the routes: %w", err)
	}
	if len(b) > MaxMessage { // neither the next start nor a snapshot would bring it back
		return fmt.Errorf("nodelink: keep the routes: %d bytes are more than a table may have, %d", len(b), MaxMessage)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".routes-*") // 0600
	if err != nil {
		return fmt.Errorf("nodelink: keep the routes: %w", err)
	}
	defer os.Remove(f.Name()) //nolint:errcheck // gone already once it was renamed
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		if err = os.Rename(f.Name(), path); err == nil {
			err = syncDir(filepath.Dir(path))
		}
	}
	if err != nil {
		return fmt.Errorf("nodelink: keep the routes: %w", err)
	}
	return nil
}

// removeCache forgets the kept table, so that a restart does not serve it.
func removeCache(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("nodelink: forget the kept routes: %w", err)
	}
	return nil
}

// syncDir makes a rename or removal in a directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
