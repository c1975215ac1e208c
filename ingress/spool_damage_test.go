package ingress_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/ingress"
)

// spooledFiles makes a disk with the texts 0 to 11 in three segments.
func spooledFiles(tb testing.TB) *platter {
	tb.Helper()
	db := newBase()
	db.set(before)
	g := openSpool(tb, newPlatter(1), db, func(c *ingress.SpoolConfig) { c.SegmentBytes = 560 })
	for i := range 12 {
		g.append(tb, fmt.Sprint(i))
	}
	if err := g.Close(); err != nil {
		tb.Fatal(err)
	}
	if n := len(g.disk.names("spool-")); n != 3 {
		tb.Fatalf("%d segments", n)
	}
	return g.disk
}

func texts(from, to int, without ...int) []string {
	var all []string
	for i := from; i < to; i++ {
		if !slices.Contains(without, i) {
			all = append(all, fmt.Sprint(i))
		}
	}
	return all
}

func flip(at int) func([]byte) []byte {
	return func(b []byte) []byte { b[at] ^= 0x10; return b }
}

func cutTo(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:n] } }

// recordAt is where the nth record of a segment begins.
func recordAt(b []byte, n int) int {
	at := 32
	for range n {
		at += 12 + int(b[at+4])<<24 + int(b[at+5])<<16 + int(b[at+6])<<8 + int(b[at+7])
	}
	return at
}

// TestSpoolDamage: what is not whole is told with file and place, the rest is
// drained, and the node starts. Only the end of the last segment is no damage,
// since it may never have been acknowledged.
func TestSpoolDamage(t *testing.T) {
	t.Parallel()
	const first, second, third = "spool-0000000000000001.log", "spool-0000000000000002.log", "spool-0000000000000003.log"
	inside := func(n, more int, f func(int) func([]byte) []byte) func([]byte) []byte {
		return func(b []byte) []byte { return f(recordAt(b, n) + more)(b) }
	}
	for name, tt := range map[string]struct {
		file    string
		edit    func([]byte) []byte
		without []int
		damaged bool
	}{
		"body in the middle":         {first, inside(1, 30, flip), []int{1}, true},
		"length in the middle":       {first, inside(1, 5, flip), []int{1}, true},
		"marker in the middle":       {second, inside(0, 0, flip), []int{4}, true},
		"two in the middle":          {second, func(b []byte) []byte { return inside(2, 20, flip)(inside(1, 20, flip)(b)) }, []int{5, 6}, true},
		"end of an earlier segment":  {first, inside(3, 20, flip), []int{3}, true},
		"cut earlier segment":        {second, inside(2, 0, cutTo), []int{6, 7}, true},
		"middle of the last":         {third, inside(1, 20, flip), []int{9}, true},
		"torn end":                   {third, inside(3, 20, cutTo), []int{11}, false},
		"torn end with zeros":        {third, func(b []byte) []byte { clear(b[recordAt(b, 3)+20:]); return b }, []int{11}, false},
		"garbage behind the end":     {third, func(b []byte) []byte { return append(b, bytes.Repeat([]byte{0xf1, 0x50}, 50)...) }, nil, false},
		"header":                     {second, flip(3), nil, true},
		"header of the last":         {third, flip(9), nil, true},
		"torn header of the last":    {third, cutTo(7), ints(8, 12), false},
		"header alone of the last":   {third, cutTo(32), ints(8, 12), false},
		"empty file in the middle":   {second, cutTo(0), ints(4, 8), true},
		"missing file in the middle": {second, nil, ints(4, 8), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				disk := spooledFiles(t)
				if tt.edit == nil {
					delete(disk.files, tt.file)
				} else {
					disk.edit(tt.file, tt.edit)
				}
				var j journal
				g := openSpool(t, disk, newBase(), func(c *ingress.SpoolConfig) { c.Logger = slog.New(slog.NewTextHandler(&j, nil)) })
				g.append(t, "12")
				g.run(t)
				synctest.Wait()
				same(t, "texts", g.base.texts(), texts(0, 13, tt.without...))
				same(t, "open", g.State().Open, false)
				if told := strings.Contains(j.String(), "spool is damaged"); told != tt.damaged || told && !strings.Contains(j.String(), tt.file) {
					t.Errorf("told of damage: %v, want %v\n%s", told, tt.damaged, j.String())
				}
				want := []string{}
				if tt.damaged && tt.edit != nil {
					want = []string{strings.Replace(tt.file, "spool-", "damaged-", 1)}
				}
				same(t, "files", append([]string{}, disk.names("")...), want)
				again := openSpool(t, disk, g.base, func(c *ingress.SpoolConfig) { c.Dir = "a" }, unlock(disk))
				if st := again.State(); st.Open || (st.Bytes > 0) != (tt.edit != nil && tt.damaged && len(disk.files[want[0]].data) > 0) {
					t.Errorf("state afterwards %+v", st)
				}
			})
		})
	}
}

func ints(from, to int) (n []int) {
	for i := from; i < to; i++ {
		n = append(n, i)
	}
	return n
}

// resum writes the checksum of what into at, and returns the file.
func resum(what, at, file []byte) []byte {
	binary.BigEndian.PutUint32(at, crc32.Checksum(what, crc32.MakeTable(crc32.Castagnoli)))
	return file
}

// unlock does what the end of a process does.
func unlock(p *platter) func(*ingress.SpoolConfig) {
	return func(*ingress.SpoolConfig) { p.locked = false }
}

// TestSpoolDamageWhileItRuns is found by the drain, and told once for each file.
func TestSpoolDamageWhileItRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := newBase()
		db.set(before)
		var j journal
		reg := prometheus.NewRegistry()
		g := openSpool(t, newPlatter(1), db, func(c *ingress.SpoolConfig) {
			c.Logger, c.Registerer = slog.New(slog.NewTextHandler(&j, nil)), reg
		})
		for _, text := range texts(0, 6) {
			g.append(t, text)
		}
		g.disk.edit(g.disk.names("")[0], func(b []byte) []byte { return flip(recordAt(b, 3) + 20)(flip(recordAt(b, 1) + 20)(b)) })
		g.run(t)
		db.set(healthy)
		time.Sleep(time.Second)
		same(t, "texts", db.texts(), []string{"0", "2", "4", "5"})
		if n := strings.Count(j.String(), "spool is damaged"); n != 1 {
			t.Errorf("told %d times", n)
		}
		same(t, "damaged", value(t, reg, "parley_ingress_spool_damaged_total"), 1.0)
		same(t, "files", g.disk.names(""), []string{"damaged-0000000000000001.log"})
		g.append(t, "after")
	})
}

// TestSpoolThatCannotBeRead: a disk that doesn't show a segment is given a
// minute, and then the drain goes on without it.
func TestSpoolThatCannotBeRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := spooledFiles(t)
		db := newBase()
		g := openSpool(t, disk, db)
		unreadable := func(op, name string) error {
			if op == "read" && name == "spool-0000000000000002.log" {
				return errBroken
			}
			return nil
		}
		disk.setFault(unreadable)
		g.run(t)
		time.Sleep(50 * time.Second)
		same(t, "texts", db.texts(), texts(0, 4))
		g.append(t, "12")
		time.Sleep(11 * time.Second)
		same(t, "texts", db.texts(), append(texts(0, 4), texts(8, 13)...))
		same(t, "state", g.State().Open, false)
		same(t, "files", disk.names(""), []string{"damaged-0000000000000002.log"})

		// With the disk well again the file is drained under its old name.
		disk.setFault(nil)
		g.stop()
		if err := errors.Join(g.Close(), disk.Rename("damaged-0000000000000002.log", "spool-0000000000000002.log")); err != nil {
			t.Fatal(err)
		}
		again := openSpool(t, disk, db)
		again.run(t)
		synctest.Wait()
		same(t, "number of texts", len(db.texts()), 13)
		same(t, "number of files", len(disk.names("")), 0)
	})
}

// TestSpoolThatCannotBeReadAtFirst: a disk that doesn't show a segment to a
// process that starts may still do so later. Nothing is taken for lost, or for
// empty, before that.
func TestSpoolThatCannotBeReadAtFirst(t *testing.T) {
	t.Parallel()
	for number := 1; number <= 3; number++ {
		for _, reads := range []int{0, 5} { // that succeed: all fail, or the header can be read
			t.Run(fmt.Sprint("segment ", number, " after ", reads), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					disk := spooledFiles(t)
					done := 0
					disk.setFault(func(op, name string) error {
						if op != "read" || name != fmt.Sprintf("spool-%016x.log", number) {
							return nil
						}
						if done++; done > reads {
							return errBroken
						}
						return nil
					})
					g := openSpool(t, disk, newBase())
					if _, err := g.Quarantined(t.Context(), appName, waChannel(), parley.ID{}, 1); !errors.Is(err, parley.ErrUnavailable) {
						t.Errorf("there may be a quarantine in it, and it answers %v", err)
					}
					g.append(t, "12")
					g.run(t)
					time.Sleep(10 * time.Second)
					disk.setFault(nil)
					time.Sleep(spoolProbe)
					synctest.Wait()
					same(t, "texts", g.base.texts(), texts(0, 13))
					same(t, "number of files", len(disk.names("")), 0)
				})
			})
		}
	}
}

// TestSpoolOfANewerFormat is refused, and left as it is.
func TestSpoolOfANewerFormat(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func([]byte) []byte{
		"segment": func(b []byte) []byte { b[8]++; return resum(b[:28], b[28:], b) },
		"record": func(b []byte) []byte {
			at := recordAt(b, 2)
			end := recordAt(b, 3)
			b[at+20]++
			return resum(append(bytes.Clone(b[at+4:at+8]), b[at+12:end]...), b[at+8:], b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := spooledFiles(t)
			const file = "spool-0000000000000002.log"
			disk.edit(file, edit)
			was := bytes.Clone(disk.files[file].data)
			_, err := ingress.OpenSpool(ingress.SpoolConfig{Inbox: newBase(), Dir: "spool", Disk: disk})
			if !errors.Is(err, parley.ErrFormat) || !strings.Contains(err.Error(), file) {
				t.Errorf("got %v, want ErrFormat that names the file", err)
			}
			if len(disk.names("spool-")) != 3 || !bytes.Equal(disk.files[file].data, was) {
				t.Error("the files have changed")
			}
			if disk.locked {
				t.Error("the folder is still locked")
			}
		})
	}
}

// TestSpoolRefused: what the database refuses for good is put aside, with the
// others unharmed, and can be drained by its file's name.
func TestSpoolRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := newBase()
		db.set(before)
		var j journal
		reg := prometheus.NewRegistry()
		g := openSpool(t, newPlatter(1), db, func(c *ingress.SpoolConfig) {
			c.Logger, c.Registerer = slog.New(slog.NewTextHandler(&j, nil)), reg
		})
		var want []string
		for i := range 100 {
			text := fmt.Sprint(i)
			if i%40 == 7 {
				text = poison
			} else {
				want = append(want, text)
			}
			g.append(t, text, fmt.Sprint(i, " more"))
			want = append(want, fmt.Sprint(i, " more"))
		}
		g.run(t)
		began := time.Now()
		db.set(healthy)
		for g.State().Open && time.Since(began) < time.Minute {
			time.Sleep(spoolProbe)
		}
		if took := time.Since(began); took > 2*spoolProbe {
			t.Errorf("it took %v", took)
		}
		same(t, "texts", db.texts(), want)
		same(t, "refused", value(t, reg, "parley_ingress_spool_refused_total"), 3.0)
		db.look(func() {
			if len(db.calls) > 100 {
				t.Errorf("%d calls", len(db.calls))
			}
		})
		if n := strings.Count(j.String(), "put aside"); n != 3 || strings.Contains(j.String(), poison) {
			t.Errorf("the log:\n%s", j.String())
		}
		files := g.disk.names("")
		if len(files) != 1 || !strings.HasPrefix(files[0], "refused-") {
			t.Fatalf("files %v", files)
		}
		g.stop()
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}

		// Repaired: the file is renamed, and drained.
		if err := g.disk.Rename(files[0], strings.Replace(files[0], "refused-", "spool-", 1)); err != nil {
			t.Fatal(err)
		}
		calm := newBase()
		calm.lenient = true
		again := openSpool(t, g.disk, calm)
		if st := again.State(); !st.Open || st.Records != 3 {
			t.Errorf("state %+v", st)
		}
		again.run(t)
		synctest.Wait()
		calm.look(func() {
			if len(calm.rows) != 3 || !calm.rows[0].Late {
				t.Errorf("drained %+v", calm.rows)
			}
		})
		same(t, "number of files", len(g.disk.names("")), 0)
	})
}

// TestSpoolDoesNotBlameTheData for a database that refuses everything: one
// update in half a minute is put aside, should it be it after all.
func TestSpoolDoesNotBlameTheData(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := newBase()
		db.set(before)
		g := openSpool(t, newPlatter(1), db)
		for i := range 1000 {
			g.append(t, fmt.Sprint(i))
		}
		g.run(t)
		db.set(broken)
		time.Sleep(29 * time.Second)
		same(t, "files put aside", g.disk.names("refused-"), []string(nil))
		time.Sleep(time.Minute + 2*time.Second)
		db.set(healthy)
		time.Sleep(spoolProbe)
		synctest.Wait()
		same(t, "texts", db.texts(), texts(3, 1000))
		same(t, "state", g.State().Open, false)
	})
}

// TestSpoolPutsAsideDurably: a disk that can't keep what is put aside stops the
// drain, and nothing is dropped.
func TestSpoolPutsAsideDurably(t *testing.T) {
	t.Parallel()
	for passes, files := range []int{1, 1, 2} { // the header fails, the first record, the second
		t.Run(fmt.Sprint("after ", passes), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { spoolPutsAside(t, passes, files) })
		})
	}
}

func spoolPutsAside(t *testing.T, passes, files int) {
	t.Helper()
	db := newBase()
	db.set(before)
	g := openSpool(t, newPlatter(1), db)
	for _, text := range []string{"a", poison + " 1", "b", poison + " 2", "c"} {
		g.append(t, text)
	}
	g.run(t)
	g.disk.setFault(func(op, name string) error {
		if op != "sync" || !strings.HasPrefix(name, "refused-") {
			return nil
		}
		if passes--; passes >= 0 {
			return nil
		}
		return errBroken
	})
	db.set(healthy)
	time.Sleep(5 * time.Minute)
	if got := db.texts(); slices.Contains(got, "c") {
		t.Errorf("drained beyond what could not be put aside: %v", got)
	}
	same(t, "number of files", len(g.disk.names("spool-")), 1)
	g.disk.setFault(nil)
	time.Sleep(spoolProbe)
	synctest.Wait()
	same(t, "texts", db.texts(), []string{"a", "b", "c"})
	if len(g.disk.abused) > 0 {
		t.Errorf("written again after a failure: %v", g.disk.abused)
	}
	same(t, "number of files", len(g.disk.names("")), files)
	var aside []byte
	for _, name := range g.disk.names("refused-") {
		aside = append(aside, g.disk.files[name].synced...)
	}
	for _, text := range []string{poison + " 1", poison + " 2"} {
		if n := bytes.Count(aside, []byte(text)); n != 1 {
			t.Errorf("%q was put aside %d times", text, n)
		}
	}
}

// FuzzSpoolSegment puts anything in the place of one of three segments: the node starts,
// and what the two others hold is drained.
func FuzzSpoolSegment(f *testing.F) {
	disk := spooledFiles(f)
	names := disk.names("spool-")
	for i, name := range names {
		whole := disk.files[name].data
		for at := range names {
			f.Add(byte(at), whole)
		}
		f.Add(byte(i), whole[:len(whole)/2])
		f.Add(byte(i), flip(40)(bytes.Clone(whole)))
		f.Add(byte(i), append(bytes.Clone(whole), whole[32:]...))
	}
	f.Add(byte(1), []byte{})
	of := [][]string{texts(0, 4), texts(4, 8), texts(8, 12)}
	f.Fuzz(func(t *testing.T, place byte, data []byte) {
		at := int(place) % len(names)
		synctest.Test(t, func(t *testing.T) {
			disk := spooledFiles(t)
			disk.edit(names[at], func([]byte) []byte { return data })
			g := openSpool(t, disk, newBase())
			g.run(t)
			synctest.Wait()
			for _, text := range slices.Concat(slices.Delete(slices.Clone(of), at, at+1)...) {
				if !slices.Contains(g.base.texts(), text) {
					t.Errorf("%s is missing in %q", text, g.base.texts())
				}
			}
			same(t, "open", g.State().Open, false)
		})
	})
}
