// Checks a log with Go's own packages, which share no code with this project: that its checkpoints
// are signed, that every entry is in the tree, and that each checkpoint continues the ones before.
//
//	verify KEY SOURCE CHECKPOINT...   the last checkpoint is checked in full, the others against it
//
// SOURCE is the address of a relay, or a folder with the same files. It prints what it has checked.
package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "verify:", err)
		os.Exit(1)
	}
}

type source string

func (s source) read(path string) ([]byte, error) {
	if !strings.HasPrefix(string(s), "http://") {
		return os.ReadFile(filepath.Join(string(s), path))
	}
	answer, err := http.Get(string(s) + "/" + path)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != 200 {
		return nil, fmt.Errorf("%s: %s", path, answer.Status)
	}
	return io.ReadAll(answer.Body)
}

// Go's paths name the height, 8, which C2SP's leave out; its entries are called data.
func c2sp(tile tlog.Tile) string {
	path := strings.TrimPrefix(tile.Path(), "tile/8/")
	return "tile/" + strings.Replace(path, "data/", "entries/", 1)
}

func (s source) Height() int { return 8 }

func (s source) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, err := s.read(c2sp(tile))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

func (s source) SaveTiles([]tlog.Tile, [][]byte) {}

func open(text string, verifiers note.Verifiers) tlog.Tree {
	signed, err := note.Open([]byte(text), verifiers)
	check(err)
	lines := strings.Split(signed.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	check(err)
	root, err := base64.StdEncoding.DecodeString(lines[2])
	check(err)
	tree := tlog.Tree{N: size}
	// Three lines, the one extension that we have, and nothing after the last newline.
	if len(lines) != 5 || !strings.HasPrefix(lines[3], "tocyn-keys ") || copy(tree.Hash[:], root) != tlog.HashSize || len(root) != tlog.HashSize {
		check(fmt.Errorf("not a checkpoint: %q", signed.Text))
	}
	return tree
}

func main() {
	verifier, err := note.NewVerifier(os.Args[1])
	check(err)
	verifiers := note.VerifierList(verifier)
	from := source(os.Args[2])
	var trees []tlog.Tree
	for _, file := range os.Args[3:] {
		text, err := os.ReadFile(file)
		check(err)
		trees = append(trees, open(string(text), verifiers))
	}
	newest := trees[len(trees)-1]
	hashes := tlog.TileHashReader(newest, from)
	for _, old := range trees {
		if old.N == 0 {
			continue
		}
		proof, err := tlog.ProveTree(newest.N, old.N, hashes)
		check(err)
		check(tlog.CheckTree(proof, newest.N, newest.Hash, old.N, old.Hash))
	}
	for n := int64(0); n < newest.N; n += 256 {
		tile := tlog.Tile{H: 8, L: -1, N: n / 256, W: 256}
		if newest.N-n < 256 {
			tile.W = int(newest.N - n)
		}
		bundle, err := from.read(c2sp(tile))
		check(err)
		var stored []int64
		var entries []tlog.Hash
		for i := n; i < n+int64(tile.W); i++ {
			if len(bundle) < 2 || len(bundle) < 2+int(bundle[0])<<8+int(bundle[1]) {
				check(fmt.Errorf("bundle %d breaks off", n/256))
			}
			length := int(bundle[0])<<8 | int(bundle[1])
			hash := tlog.RecordHash(bundle[2 : 2+length])
			bundle = bundle[2+length:]
			stored = append(stored, tlog.StoredHashIndex(0, i))
			entries = append(entries, hash)
			// Proofs for each would take long in a large log.
			if i%97 == 0 && i < 1000 || i+600 > newest.N && i%7 == 0 || i+1 == newest.N {
				proof, err := tlog.ProveRecord(newest.N, i, hashes)
				check(err)
				check(tlog.CheckRecord(proof, newest.N, newest.Hash, i, hash))
			}
		}
		inTree, err := hashes.ReadHashes(stored)
		check(err)
		for i, hash := range entries {
			if inTree[i] != hash {
				check(fmt.Errorf("entry %d is not the one in the tree", n+int64(i)))
			}
		}
		if len(bundle) != 0 {
			check(fmt.Errorf("bundle %d has %d bytes more", n/256, len(bundle)))
		}
	}
	fmt.Printf("%d checkpoints, %d entries\n", len(trees), newest.N)
}
