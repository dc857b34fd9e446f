package distlock_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The snippet that the project began with.
const seed = `client := NewDistributedLockClient("http://localhost:5000")

lock, err := client.Acquire("user:123", 30*time.Second)
if err != nil {
    log.Fatal(err)
}
defer lock.Release()

// Critical section
fmt.Printf("Lock acquired: %s\n", lock.ID)
`

// program makes one of a block of the README. Only the address differs.
func program(t *testing.T, block, url string) string {
	t.Helper()
	block = strings.ReplaceAll(block, "http://localhost:5000", url)
	if strings.HasPrefix(block, "package ") {
		return block
	}
	source := "package main\n\nimport (\n\t. \"distlock\"\n"
	for _, name := range []string{"context", "errors", "fmt", "log", "os", "time"} {
		if strings.Contains(block, name+".") {
			source += fmt.Sprintf("\t%q\n", name)
		}
	}
	return source + ")\n\nfunc main() {\n" + block + "}\n"
}

// build makes the programs of all blocks at once and returns their files.
func build(t *testing.T, blocks []string, url string) (programs []string) {
	t.Helper()
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	module := t.TempDir()
	write := func(name, text string) {
		file := filepath.Join(module, name)
		_ = os.MkdirAll(filepath.Dir(file), 0o700)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module readme\n\ngo 1.19\n\nrequire distlock v0.0.0\n\nreplace distlock => "+folder+"\n")
	for i, block := range blocks {
		write(fmt.Sprintf("p%d/main.go", i), program(t, block, url))
		programs = append(programs, filepath.Join(module, "bin", fmt.Sprintf("p%d", i)))
	}
	_ = os.Mkdir(filepath.Join(module, "bin"), 0o700)
	compiler := exec.Command("go", "build", "-o", "bin/", "./...")
	compiler.Dir = module
	if output, err := compiler.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return programs
}

func Test01SnippetsOfTheReadmeRun(t *testing.T) {
	heavy(t)
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, found := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(string(readme), -1) {
		blocks = append(blocks, found[1])
	}
	if len(blocks) != 5 || blocks[0] != seed {
		t.Fatal("the README lacks the snippet that the project began with, or another one")
	}
	s := startServer(t)
	programs := build(t, blocks, s.URL)
	want := []string{`^Lock acquired: lock-[0-9a-f]{16}\n$`, "", `step 3, fence \d+, 2\d\.\d+s left\n$`,
		`^this instance does it: lock-`, `^0 locks are held\n$`}
	for i, file := range programs {
		if want[i] == "" {
			s.elects(file)
			continue
		}
		output, err := exec.Command(file).CombinedOutput()
		if err != nil || !regexp.MustCompile(want[i]).Match(output) {
			t.Fatalf("block %d: %v\n%s", i, err, output)
		}
		if locks := s.stats().ActiveLocks; locks != 0 {
			t.Fatalf("block %d leaves %d locks", i, locks)
		}
	}
}

// elects starts two instances of the leader election and interrupts the leader.
func (s *server) elects(file string) {
	s.t.Helper()
	start := func() (*exec.Cmd, *bufio.Reader) {
		instance := exec.Command(file)
		output, err := instance.StdoutPipe()
		s.check(err)
		s.check(instance.Start())
		return instance, bufio.NewReader(output)
	}
	leads := func(output *bufio.Reader) {
		s.t.Helper()
		if line, err := output.ReadString('\n'); err != nil || !regexp.MustCompile("^leading with fence [0-9a-f]{16}\n$").MatchString(line) {
			s.t.Fatal(line, err)
		}
	}
	one, oneSays := start()
	leads(oneSays)
	two, twoSays := start()
	eventually(s.t, 30*time.Second, "the second one waits", func() bool { return s.status("leader").Waiters == 1 })
	s.check(one.Process.Signal(os.Interrupt))
	leads(twoSays)
	s.check(two.Process.Signal(os.Interrupt))
	s.check(one.Wait())
	s.check(two.Wait())
}
