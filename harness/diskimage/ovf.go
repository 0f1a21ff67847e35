package diskimage

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"text/template"
)

// Machine describes the virtual machine that a package sets up.
type Machine struct {
	Name   string // file and machine name: letters, digits, "-", "_", "."
	About  string // one line
	CPUs   int    // 0 = 1
	MemMiB int    // 0 = 256
}

func (m Machine) withDefaults() (Machine, error) {
	if m.CPUs == 0 {
		m.CPUs = 1
	}
	if m.MemMiB == 0 {
		m.MemMiB = 256
	}
	if m.About == "" {
		m.About = m.Name + " on OSv"
	}
	if m.Name == "" || m.Name[0] == '.' || m.Name[0] == '-' {
		return m, fmt.Errorf("diskimage: machine name %q", m.Name)
	}
	for i := 0; i < len(m.Name); i++ {
		c := m.Name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return m, fmt.Errorf("diskimage: machine name %q: byte %d is not a letter, digit, dash, dot or underscore", m.Name, i)
		}
	}
	if m.CPUs < 1 || m.CPUs > 64 || m.MemMiB < 16 {
		return m, fmt.Errorf("diskimage: machine %s: %d vCPUs, %d MiB: want 1 to 64 and 16 or more", m.Name, m.CPUs, m.MemMiB)
	}
	for _, r := range m.About {
		if r < ' ' {
			return m, fmt.Errorf("diskimage: machine %s: control character in %q", m.Name, m.About)
		}
	}
	return m, nil
}

// Hypervisor is a product that OVF packages differ for.
type Hypervisor string

// VirtualBox gets AHCI and an Intel 82545EM (e1000), ESXi PVSCSI and VMXNET3: the
// devices that both firmware and kernel have drivers for.
const (
	VirtualBox Hypervisor = "virtualbox"
	ESXi       Hypervisor = "esxi"
)

// ovf is the descriptor (DMTF DSP0243 1.1.0, schema DSP8023 1.1.0): the elements of an
// Item come in alphabetical order, as CIM_ResourceAllocationSettingData has them.
// vmdk is the disk's file and its size.
func ovf(m Machine, h Hypervisor, d *Disk, vmdk string, vmdkBytes int64) ([]byte, error) {
	v := map[string]any{
		"M": m, "VMDK": vmdk, "VMDKBytes": vmdkBytes, "Capacity": d.size, "ESXi": h == ESXi,
		"Populated": d.populated(), "System": "virtualbox-2.2", "DiskBus": "AHCI", "DiskType": 20, "DiskName": "sataController0", "NIC": "E1000",
	}
	switch h {
	case VirtualBox:
	case ESXi:
		v["System"], v["DiskBus"], v["DiskType"], v["DiskName"], v["NIC"] = "vmx-13", "VirtualSCSI", 6, "scsiController0", "VmxNet3"
	default:
		return nil, fmt.Errorf("diskimage: ovf: hypervisor %q: want virtualbox or esxi", h)
	}
	var b bytes.Buffer
	err := ovfTemplate.Execute(&b, v)
	return b.Bytes(), err
}

// populated is how many bytes of the disk are in use, to a grain.
func (d *Disk) populated() (n int64) {
	const grain = vmdkGrain * sectorBytes
	buf := make([]byte, grain)
	for at := int64(0); at < d.size; at += grain {
		if d.chunk(buf, at) {
			n += grain
		}
	}
	return n
}

var ovfTemplate = template.Must(template.New("ovf").Funcs(template.FuncMap{"x": func(s string) string {
	var b bytes.Buffer
	xml.EscapeText(&b, []byte(s))
	return b.String()
}}).Parse(`<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData" xmlns:vssd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData"{{if .ESXi}} xmlns:vmw="http://www.vmware.com/schema/ovf"{{end}}>
  <References>
    <File ovf:id="file1" ovf:href="{{.VMDK}}" ovf:size="{{.VMDKBytes}}"/>
  </References>
  <DiskSection>
    <Info>Virtual disks</Info>
    <Disk ovf:diskId="vmdisk1" ovf:fileRef="file1" ovf:capacity="{{.Capacity}}" ovf:format="http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized" ovf:populatedSize="{{.Populated}}"/>
  </DiskSection>
  <NetworkSection>
    <Info>Networks</Info>
    <Network ovf:name="{{if .ESXi}}VM Network{{else}}NAT{{end}}">
      <Description>The network of the only card</Description>
    </Network>
  </NetworkSection>
  <VirtualSystem ovf:id="{{.M.Name}}">
    <Info>{{x .M.About}}</Info>
    <Name>{{.M.Name}}</Name>
    <OperatingSystemSection ovf:id="102"{{if .ESXi}} vmw:osType="other64Guest"{{end}}>
      <Info>The guest operating system</Info>
      <Description>Other 64-bit</Description>
    </OperatingSystemSection>
    <VirtualHardwareSection>
      <Info>Virtual hardware</Info>
      <System>
        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>
        <vssd:InstanceID>0</vssd:InstanceID>
        <vssd:VirtualSystemIdentifier>{{.M.Name}}</vssd:VirtualSystemIdentifier>
        <vssd:VirtualSystemType>{{.System}}</vssd:VirtualSystemType>
      </System>
      <Item>
        <rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits>
        <rasd:Description>Number of virtual CPUs</rasd:Description>
        <rasd:ElementName>{{.M.CPUs}} virtual CPU(s)</rasd:ElementName>
        <rasd:InstanceID>1</rasd:InstanceID>
        <rasd:ResourceType>3</rasd:ResourceType>
        <rasd:VirtualQuantity>{{.M.CPUs}}</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits>
        <rasd:Description>Memory size</rasd:Description>
        <rasd:ElementName>{{.M.MemMiB}} MB of memory</rasd:ElementName>
        <rasd:InstanceID>2</rasd:InstanceID>
        <rasd:ResourceType>4</rasd:ResourceType>
        <rasd:VirtualQuantity>{{.M.MemMiB}}</rasd:VirtualQuantity>
      </Item>
      <Item>
        <rasd:Address>0</rasd:Address>
        <rasd:Description>Disk controller</rasd:Description>
        <rasd:ElementName>{{.DiskName}}</rasd:ElementName>
        <rasd:InstanceID>3</rasd:InstanceID>
        <rasd:ResourceSubType>{{.DiskBus}}</rasd:ResourceSubType>
        <rasd:ResourceType>{{.DiskType}}</rasd:ResourceType>
      </Item>
      <Item>
        <rasd:AddressOnParent>0</rasd:AddressOnParent>
        <rasd:Description>Disk</rasd:Description>
        <rasd:ElementName>disk1</rasd:ElementName>
        <rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource>
        <rasd:InstanceID>4</rasd:InstanceID>
        <rasd:Parent>3</rasd:Parent>
        <rasd:ResourceType>17</rasd:ResourceType>
      </Item>
      <Item>
        <rasd:AddressOnParent>7</rasd:AddressOnParent>
        <rasd:AutomaticAllocation>true</rasd:AutomaticAllocation>
        <rasd:Connection>{{if .ESXi}}VM Network{{else}}NAT{{end}}</rasd:Connection>
        <rasd:Description>Network card</rasd:Description>
        <rasd:ElementName>ethernet0</rasd:ElementName>
        <rasd:InstanceID>5</rasd:InstanceID>
        <rasd:ResourceSubType>{{.NIC}}</rasd:ResourceSubType>
        <rasd:ResourceType>10</rasd:ResourceType>
      </Item>
    </VirtualHardwareSection>
  </VirtualSystem>
</Envelope>
`))
