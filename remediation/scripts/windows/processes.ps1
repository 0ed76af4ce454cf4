# Processes with parent, user, command line, hash, signature and connections, as JSON lines. Reads only.
$ErrorActionPreference = 'SilentlyContinue'
try { [Console]::OutputEncoding = New-Object System.Text.UTF8Encoding $false } catch { $null = $_ }
$listening = @(Get-NetTCPConnection -State Listen | Select-Object -ExpandProperty LocalPort)
Get-NetTCPConnection | Where-Object { $_.State -ne 'Listen' } | ForEach-Object {
    [ordered]@{ kind = 'connection'; pid = $_.OwningProcess; address = $_.RemoteAddress; port = $_.RemotePort
        state = "$($_.State)"; inbound = ($listening -contains $_.LocalPort) } | ConvertTo-Json -Compress
}
$known = @{}
Get-CimInstance Win32_Process | ForEach-Object {
    $path = $_.ExecutablePath
    if ($path -and -not $known.ContainsKey($path) -and $known.Count -lt 400) {
        $signature = Get-AuthenticodeSignature -LiteralPath $path
        $known[$path] = @{
            sha256 = (Get-FileHash -Algorithm SHA256 -LiteralPath $path).Hash
            signed = "$($signature.Status)"
            signer = "$($signature.SignerCertificate.Subject)"
        }
    }
    $owner = Invoke-CimMethod -InputObject $_ -MethodName GetOwner
    $of = if ($path) { $known[$path] } else { @{} }
    [ordered]@{
        kind = 'process'; pid = $_.ProcessId; ppid = $_.ParentProcessId; user = "$($owner.User)"; name = $_.Name
        exe = "$path"; deleted = [bool]($path -and -not (Test-Path -LiteralPath $path)); sha256 = "$($of.sha256)"
        signed = "$($of.signed)"; signer = "$($of.signer)"; cmd = "$($_.CommandLine)".Substring(0, [Math]::Min(400, "$($_.CommandLine)".Length))
    } | ConvertTo-Json -Compress
}
'{"kind":"end"}'
