# Live connections with the attackers; with -Cut yes they are reset, behind a rule of Windows' own firewall that is taken away
# again at the end: the network security group is what denies them from then on.
param([string]$Attackers = '', [string]$Cut = 'no', [string]$Rule = 'defender-responder')
$ErrorActionPreference = 'SilentlyContinue'
try { [Console]::OutputEncoding = New-Object System.Text.UTF8Encoding $false } catch { $null = $_ }
$listening = @(Get-NetTCPConnection -State Listen | Select-Object -ExpandProperty LocalPort)
function Flows($word, $address) {
    Get-NetTCPConnection -RemoteAddress $address | ForEach-Object {
        [ordered]@{ kind = $word; address = $address; state = "$($_.State)"; local = "$($_.LocalAddress):$($_.LocalPort)"
            peer = "$($_.RemoteAddress):$($_.RemotePort)"; pid = $_.OwningProcess; inbound = ($listening -contains $_.LocalPort) } |
            ConvertTo-Json -Compress
    }
}
# A connection is reset by giving it the state DELETE_TCB (12); Windows has this for IPv4 alone.
Add-Type -Namespace Responder -Name Tcp -MemberDefinition @'
[System.Runtime.InteropServices.StructLayout(System.Runtime.InteropServices.LayoutKind.Sequential)]
public struct Row { public uint State; public uint LocalAddress; public uint LocalPort; public uint RemoteAddress; public uint RemotePort; }
[System.Runtime.InteropServices.DllImport("iphlpapi.dll")]
public static extern uint SetTcpEntry(ref Row row);
'@
function Reset($connection) {
    $row = New-Object Responder.Tcp+Row
    $row.State = 12
    $row.LocalAddress = [BitConverter]::ToUInt32([System.Net.IPAddress]::Parse($connection.LocalAddress).GetAddressBytes(), 0)
    $row.RemoteAddress = [BitConverter]::ToUInt32([System.Net.IPAddress]::Parse($connection.RemoteAddress).GetAddressBytes(), 0)
    $row.LocalPort = (($connection.LocalPort -band 0xFF) -shl 8) -bor ($connection.LocalPort -shr 8)
    $row.RemotePort = (($connection.RemotePort -band 0xFF) -shl 8) -bor ($connection.RemotePort -shr 8)
    [void][Responder.Tcp]::SetTcpEntry([ref]$row)
}
'{"kind":"tools","ss":true,"conntrack":true,"uid":0}'
foreach ($text in ($Attackers -split '[,\s]+')) {
    $address = $null
    if (-not [System.Net.IPAddress]::TryParse($text, [ref]$address)) { continue }
    $plain = $address.ToString()
    Flows 'before' $plain
    if ($Cut -eq 'yes') {
        $made = foreach ($direction in 'Inbound', 'Outbound') {
            $name = "$Rule-$direction-$plain"
            New-NetFirewallRule -Name $name -DisplayName $name -Direction $direction -Action Block -RemoteAddress $plain | Out-Null
            $name
        }
        Get-NetTCPConnection -RemoteAddress $plain | Where-Object { $_.LocalAddress -notlike '*:*' } | ForEach-Object { Reset $_ }
        Start-Sleep -Seconds 5
        Flows 'after' $plain
        foreach ($name in $made) { Remove-NetFirewallRule -Name $name }
    }
}
'{"kind":"end"}'
