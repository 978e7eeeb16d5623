package serve

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/postern-net/postern"
	"github.com/postern-net/postern/internal/store"
)

// ensureToken makes the token in the file good, and makes the file first where
// there is none. The file is on disk before its hash is in the database, so
// that a crash between the two leaves a token that the next start adopts. A
// token that was revoked stays revoked. kind says in the token's ID what it is
// for.
func ensureToken(ctx context.Context, st *store.Store, path, kind, name string, role postern.Role, now time.Time) (secret string, err error) {
	secret, err = readSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		if secret, err = newSecret(); err == nil {
			err = writeSecret(path, secret)
		}
	}
	if err != nil {
		return "", fmt.Errorf("the %s token file: %w", role, err)
	}
	hash := sha256.Sum256([]byte(secret))
	t := postern.Token{ID: "tok_" + kind + "_" + base64.RawURLEncoding.EncodeToString(hash[:6]), Name: name, Role: role, CreatedAt: now}
	return secret, st.Update(ctx, func(tx *store.Tx) error {
		made, err := tx.CreateToken(t, hash[:])
		if err != nil || !made {
			return err
		}
		return tx.AppendEvent(postern.Event{At: now, Actor: "serve", Action: "token.created", Kind: "token", Subject: t.ID, Message: string(role) + " token from " + filepath.Base(path)})
	})
}

func newSecret() (string, error) {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return "", err
	}
	return "postern_" + base64.RawURLEncoding.EncodeToString(b), nil
}

// readSecret reads a secret of one line from a file that only its owner may
// read.
func readSecret(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", &postern.Error{Code: postern.CodeInvalid, Value: path, Message: "others may read the file", Fix: "chmod 600 it"}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(b))
	if len(secret) < 32 {
		return "", &postern.Error{Code: postern.CodeInvalid, Value: path, Message: "holds no secret of at least 32 characters", Fix: "remove the file to have a new one made"}
	}
	return secret, nil
}

// writeSecret writes a file that only its owner reads, whole or not at all.
func writeSecret(path, secret string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".secret-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // gone already once it was renamed
	_, err = f.WriteString(secret + "\n")
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close()) // or a crash of the machine could lose what is in the store already
}
