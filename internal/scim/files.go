package scim

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Files are a certificate chain and its key in two PEM files, which are read
// again when they have changed: a renewal needs no restart. It implements
// [Certificates].
type Files struct {
	cert, key string
	log       *slog.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	stamp  [2]stamp
	looked time.Time
}

// stamp tells whether a file is another one than before.
type stamp struct {
	size int64
	at   time.Time
	mode fs.FileMode
}

// lookEvery is how long a renewed certificate may stay unseen.
const lookEvery = 5 * time.Second

// OpenFiles reads the files.
func OpenFiles(cert, key string, log *slog.Logger) (*Files, error) {
	f := &Files{cert: cert, key: key, log: log, looked: time.Now()}
	stamps, err := f.stamps()
	if err != nil {
		return nil, fmt.Errorf("scim: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("scim: %s and %s: %w", cert, key, err)
	}
	f.pair, f.stamp = &pair, stamps
	return f, nil
}

// GetCertificate returns the certificate that is in the files. One that cannot
// be used, as while they are being replaced, leaves the one before.
func (f *Files) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.looked) >= lookEvery {
		f.looked = now
		f.look()
	}
	return f.pair, nil
}

func (f *Files) look() {
	stamps, err := f.stamps()
	if err == nil && stamps == f.stamp {
		return
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.LoadX509KeyPair(f.cert, f.key)
	}
	if err != nil {
		f.log.Error("the certificate cannot be read; the one of before is shown", "certificate_file", f.cert, "error", err)
		return
	}
	f.pair, f.stamp = &pair, stamps
	if stamps[1].mode.Perm()&0o007 != 0 { // at the start that is refused; now it would end in an old certificate
		f.log.Error("everybody on the machine may use the private key, and the next start will refuse it; chmod 600 it, and have the renewal do so", "key_file", f.key)
	}
	f.log.Info("a new certificate is shown", "certificate_file", f.cert, "not_after", pair.Leaf.NotAfter)
}

func (f *Files) stamps() (out [2]stamp, err error) {
	for i, name := range []string{f.cert, f.key} {
		var info fs.FileInfo
		if info, err = os.Stat(name); err != nil {
			return out, err
		}
		out[i] = stamp{info.Size(), info.ModTime(), info.Mode()}
	}
	return out, nil
}

// Leaf is the certificate that is shown now.
func (f *Files) Leaf() *x509.Certificate {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pair.Leaf
}

// Covers reports the first host that the certificate is not for.
func (f *Files) Covers(hosts []string) error {
	leaf := f.Leaf()
	for _, h := range hosts {
		if err := leaf.VerifyHostname(h); err != nil {
			return errors.Join(fmt.Errorf("scim: the certificate in %s is not for %s", f.cert, h), err)
		}
	}
	return nil
}
