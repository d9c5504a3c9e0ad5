package openings

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// change is one change of a transaction.
type change struct {
	set     string // empty: the table is gone
	all     bool   // the set is gone, or emptied
	add     bool   // else removed
	key     []byte
	timeout time.Duration
}

const (
	tableName = "earshot"
	nfHeader  = 4 // bytes before the attributes: family, version, resource
)

// parse reads one notification. end says that it closes a transaction.
func parse(header netlink.HeaderType, data []byte) (changes []change, end bool, err error) {
	if header>>8 != unix.NFNL_SUBSYS_NFTABLES || len(data) < nfHeader {
		return nil, false, nil
	}
	kind := header & 0xff
	if kind == unix.NFT_MSG_NEWGEN {
		return nil, true, nil
	}
	if data[0] != unix.NFPROTO_INET {
		return nil, false, nil
	}
	ad, err := netlink.NewAttributeDecoder(data[nfHeader:])
	if err != nil {
		return nil, false, fmt.Errorf("read notification %d: %w", kind, err)
	}
	ad.ByteOrder = binary.BigEndian
	switch kind {
	case unix.NFT_MSG_DELTABLE:
		changes, err = parseTable(ad)
	case unix.NFT_MSG_DELSET:
		changes, err = parseSet(ad)
	case unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
		changes, err = parseElements(ad, kind == unix.NFT_MSG_NEWSETELEM)
	}
	return changes, false, err
}

// parseTable reads that a table is gone.
func parseTable(ad *netlink.AttributeDecoder) ([]change, error) {
	ours := false
	for ad.Next() {
		ours = ours || ad.Type() == unix.NFTA_TABLE_NAME && ad.String() == tableName
	}
	if !ours {
		return nil, ad.Err()
	}
	return []change{{}}, ad.Err()
}

// parseSet reads that a set is gone.
func parseSet(ad *netlink.AttributeDecoder) ([]change, error) {
	var table, set string
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_SET_TABLE:
			table = ad.String()
		case unix.NFTA_SET_NAME:
			set = ad.String()
		}
	}
	if table != tableName {
		return nil, ad.Err()
	}
	return []change{{set: set, all: true}}, ad.Err()
}

// parseElements reads elements that were added or removed.
func parseElements(ad *netlink.AttributeDecoder, add bool) ([]change, error) {
	var table, set string
	var changes []change
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_SET_ELEM_LIST_TABLE:
			table = ad.String()
		case unix.NFTA_SET_ELEM_LIST_SET:
			set = ad.String()
		case unix.NFTA_SET_ELEM_LIST_ELEMENTS:
			ad.Nested(func(list *netlink.AttributeDecoder) error {
				for list.Next() {
					c := change{add: add}
					list.Nested(c.parse)
					changes = append(changes, c)
				}
				return nil
			})
		}
	}
	if table != tableName {
		return nil, ad.Err()
	}
	for i := range changes {
		changes[i].set = set
	}
	if len(changes) == 0 && !add {
		changes = []change{{set: set, all: true}}
	}
	return changes, ad.Err()
}

// parse reads one element.
func (c *change) parse(ad *netlink.AttributeDecoder) error {
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_SET_ELEM_KEY:
			ad.Nested(func(value *netlink.AttributeDecoder) error {
				for value.Next() {
					c.key = value.Bytes()
				}
				return nil
			})
		case unix.NFTA_SET_ELEM_TIMEOUT:
			c.timeout = time.Duration(ad.Uint64()) * time.Millisecond
		}
	}
	return nil
}
