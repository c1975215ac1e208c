package pgserver

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is whom the server runs as if this process is root, which PostgreSQL
// refuses to be. It is nil for any other user, who is the server's as well.
type account struct{ uid, gid uint32 }

// unprivileged finds an account to run as: the one that packages make, or the
// one that every system has.
func unprivileged() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	found, err := user.Lookup(superuser)
	if err != nil {
		found, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root, and there is nobody else: %w", err)
	}
	uid, err := strconv.ParseUint(found.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", found.Username, err)
	}
	gid, err := strconv.ParseUint(found.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", found.Username, err)
	}
	return &account{uid: uint32(uid), gid: uint32(gid)}, nil
}

func (a *account) attributes() *syscall.SysProcAttr {
	if a == nil {
		return &syscall.SysProcAttr{}
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: a.uid, Gid: a.gid}}
}

// reaches says which folder keeps the account from reaching a path, if one does.
func (a *account) reaches(path string) error {
	const othersSearch = 0o001
	if a == nil {
		return nil
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("find the way to %s: %w", path, err)
		}
		if info.Mode()&othersSearch == 0 {
			return fmt.Errorf("the server does not run as root and needs %s, but %s is closed to others", path, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// give makes the account the owner of a file or folder.
func (a *account) give(path string) error {
	if a == nil {
		return nil
	}
	if err := os.Chown(path, int(a.uid), int(a.gid)); err != nil {
		return fmt.Errorf("give to the server's account: %w", err)
	}
	return nil
}
