# What starts by itself, as JSON lines. Autoruns' own list where autorunsc is there, and what can be read without.
$ErrorActionPreference = 'SilentlyContinue'
try { [Console]::OutputEncoding = New-Object System.Text.UTF8Encoding $false } catch { $null = $_ }
function Tell($kind, $path, $what) {
    [ordered]@{ kind = $kind; path = "$path"; what = "$what"; modified = 0; owner = ''; sha256 = '' } | ConvertTo-Json -Compress
}
$tool = Get-Command -Name 'autorunsc64.exe', 'autorunsc.exe' | Select-Object -First 1
# run as the system: only Microsoft's own, from where nobody else may write (a folder beside it brings its libraries)
$from = if ($tool) { Split-Path -Parent -Path $tool.Source }
$safe = $from -and (@($env:windir, "$env:windir\System32") -contains $from -or
    (@($env:ProgramFiles, ${env:ProgramFiles(x86)}) | Where-Object { $_ -and "$from\".StartsWith("$_\", 'OrdinalIgnoreCase') }))
$signature = if ($tool) { Get-AuthenticodeSignature -LiteralPath $tool.Source }
$trusted = $tool -and $signature.Status -eq 'Valid' -and $signature.SignerCertificate.Subject -like '*O=Microsoft Corporation*' -and $safe
if ($trusted) {
    & $tool.Source -accepteula -nobanner -a '*' -c -h -s '*' | ConvertFrom-Csv | Where-Object { $_.'Image Path' } | ForEach-Object {
        [ordered]@{ kind = 'autoruns'; path = "$($_.'Image Path')"; what = "$($_.'Entry Location') $($_.Entry) $($_.'Launch String')"
            signer = "$($_.Signer)"; sha256 = "$($_.'SHA-256')"; modified = 0; owner = '' } | ConvertTo-Json -Compress
    }
}
$keys = @('Registry::HKEY_LOCAL_MACHINE\Software\Microsoft\Windows\CurrentVersion\Run',
    'Registry::HKEY_LOCAL_MACHINE\Software\Microsoft\Windows\CurrentVersion\RunOnce',
    'Registry::HKEY_LOCAL_MACHINE\Software\WOW6432Node\Microsoft\Windows\CurrentVersion\Run',
    'Registry::HKEY_LOCAL_MACHINE\Software\Microsoft\Windows NT\CurrentVersion\Winlogon')
$keys += Get-ChildItem -Path 'Registry::HKEY_USERS' | Where-Object { $_.PSChildName -match '^S-1-5-21-[\d-]+$' } | ForEach-Object {
    "Registry::$($_.Name)\Software\Microsoft\Windows\CurrentVersion\Run"
    "Registry::$($_.Name)\Software\Microsoft\Windows\CurrentVersion\RunOnce"
}
foreach ($key in $keys) {
    $item = Get-Item -LiteralPath $key
    if ($item) { foreach ($name in $item.GetValueNames()) { Tell 'runkey' "$key\$name" $item.GetValue($name) } }
}
Get-CimInstance -Namespace root/subscription -ClassName CommandLineEventConsumer | ForEach-Object { Tell 'wmi' $_.Name $_.CommandLineTemplate }
Get-CimInstance -Namespace root/subscription -ClassName ActiveScriptEventConsumer | ForEach-Object { Tell 'wmi' $_.Name $_.ScriptText }
Get-CimInstance Win32_Service | Where-Object { $_.StartMode -eq 'Auto' } | ForEach-Object { Tell 'service' $_.Name $_.PathName }
Get-ScheduledTask | Where-Object { $_.State -ne 'Disabled' } | ForEach-Object {
    $does = ($_.Actions | ForEach-Object { if ($_.Execute) { "$($_.Execute) $($_.Arguments)" } else { "COM $($_.ClassId)" } }) -join '; '
    # Microsoft's own are many: told where what they run is not Windows'
    $own = $_.TaskPath -like '\Microsoft\*' -and ($does -match '^(COM |"?%(windir|SystemRoot)%|"?C:\\Windows\\)')
    if (-not $own) { Tell 'task' "$($_.TaskPath)$($_.TaskName)" $does }
}
Get-ChildItem "$env:ProgramData\Microsoft\Windows\Start Menu\Programs\StartUp", "$env:SystemDrive\Users\*\AppData\Roaming\Microsoft\Windows\Start Menu\Programs\Startup" -File |
    ForEach-Object { Tell 'startup' $_.FullName $_.Name }
'{"kind":"end"}'
