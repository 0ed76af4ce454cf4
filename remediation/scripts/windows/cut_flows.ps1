# Live connections with the attackers; with -Cut yes a rule of Windows' own firewall denies them from now on.
param([string]$Attackers = '', [string]$Cut = 'no', [string]$Rule = 'defender-responder')
$ErrorActionPreference = 'SilentlyContinue'
function Flows($word, $address) {
    Get-NetTCPConnection -RemoteAddress $address | ForEach-Object {
        [ordered]@{ kind = $word; address = $address; state = "$($_.State)"; local = "$($_.LocalAddress):$($_.LocalPort)"
            peer = "$($_.RemoteAddress):$($_.RemotePort)"; pid = $_.OwningProcess } | ConvertTo-Json -Compress
    }
}
'{"kind":"tools","ss":true,"conntrack":true,"uid":0}'
foreach ($text in $Attackers.Split(',')) {
    $address = $null
    if (-not [System.Net.IPAddress]::TryParse($text, [ref]$address)) { continue }
    Flows 'before' $address.ToString()
    if ($Cut -eq 'yes') {
        foreach ($direction in 'Inbound', 'Outbound') {
            $name = "$Rule-$direction-$($address.ToString())"
            if (-not (Get-NetFirewallRule -Name $name)) {
                New-NetFirewallRule -Name $name -DisplayName $name -Direction $direction -Action Block -RemoteAddress $address.ToString() | Out-Null
            }
        }
        Start-Sleep -Seconds 5
        Flows 'after' $address.ToString()
    }
}
'{"kind":"end"}'
