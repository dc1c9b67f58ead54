// Reads every LTX file of one folder by the Go module, says on standard output what it holds, and
// writes the same content, by the Go module, to a file of the same name in another folder.
//
//	ltx_go FROM TO
package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"

	"github.com/superfly/ltx"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("usage: ltx_go FROM TO")
	}
	names, err := filepath.Glob(filepath.Join(os.Args[1], "*.ltx"))
	if err != nil {
		log.Fatal(err)
	}
	for _, name := range names {
		to := filepath.Join(os.Args[2], filepath.Base(name))
		if err := again(name, to); err != nil {
			log.Fatalf("%s: %v", filepath.Base(name), err)
		}
	}
}

// again decodes the file from, describes it and encodes it to the file to.
func again(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()

	dec := ltx.NewDecoder(bytes.NewReader(data))
	if err := dec.DecodeHeader(); err != nil {
		return fmt.Errorf("decode header: %w", err)
	}
	h := dec.Header()
	fmt.Printf("%s %d %d %d-%d %d %s %d %d+%d %08x %08x\n", filepath.Base(from), h.PageSize, h.Commit,
		h.MinTXID, h.MaxTXID, h.Timestamp, h.PreApplyChecksum, h.NodeID,
		h.WALOffset, h.WALSize, h.WALSalt1, h.WALSalt2)

	enc, err := ltx.NewEncoder(out)
	if err != nil {
		return err
	}
	if err := enc.EncodeHeader(h); err != nil {
		return fmt.Errorf("encode header: %w", err)
	}
	pages := make(map[uint32][]byte)
	for {
		var ph ltx.PageHeader
		page := make([]byte, h.PageSize)
		if err := dec.DecodePage(&ph, page); err == io.EOF {
			break
		} else if err != nil {
			return fmt.Errorf("decode page: %w", err)
		}
		pages[ph.Pgno] = page
		fmt.Printf("%d %s\n", ph.Pgno, ltx.ChecksumPage(ph.Pgno, page))
		if err := enc.EncodePage(ltx.PageHeader{Pgno: ph.Pgno}, page); err != nil {
			return fmt.Errorf("encode page: %w", err)
		}
	}
	if err := dec.Close(); err != nil {
		return fmt.Errorf("close decoder: %w", err)
	}
	fmt.Printf("post %s\n", dec.Trailer().PostApplyChecksum)

	// A page must be where the page index says.
	if got, want := len(dec.PageIndex()), len(pages); got != want {
		return fmt.Errorf("page index of %d pages, want %d", got, want)
	}
	for pgno, at := range dec.PageIndex() {
		ph, page, err := ltx.DecodePageData(data[at.Offset : at.Offset+at.Size])
		if err != nil {
			return fmt.Errorf("page %d by its index: %w", pgno, err)
		}
		if ph.Pgno != pgno || !bytes.Equal(page, pages[pgno]) {
			return fmt.Errorf("page %d is not where the page index says", pgno)
		}
	}

	enc.SetPostApplyChecksum(dec.Trailer().PostApplyChecksum)
	if err := enc.Close(); err != nil {
		return fmt.Errorf("close encoder: %w", err)
	}
	return out.Close()
}
