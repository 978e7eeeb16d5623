//go:build unix

package serve

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/postern-net/postern"
)

// LockDir takes a state directory for this process. The lock goes with the
// process, however it ends.
func LockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		_ = f.Close() // nothing was written
		return nil, &postern.Error{
			Code: postern.CodeConflict, Field: "state_dir", Value: dir,
			Message: "another process serves from it", Fix: "stop that one, or give this one a directory of its own",
		}
	}
	return f, nil
}
