# What starts by itself, as JSON lines. Autoruns' own list where autorunsc is there, and what can be read without.
$ErrorActionPreference = 'SilentlyContinue'
function Tell($kind, $path, $what) {
    [ordered]@{ kind = $kind; path = "$path"; what = "$what"; modified = 0; owner = ''; sha256 = '' } | ConvertTo-Json -Compress
}
$tool = Get-Command -Name 'autorunsc64.exe', 'autorunsc.exe' | Select-Object -First 1
if ($tool) {
    & $tool.Source -accepteula -nobanner -a '*' -c -h -s | ConvertFrom-Csv | Where-Object { $_.'Image Path' } | ForEach-Object {
        [ordered]@{ kind = 'autoruns'; path = "$($_.'Image Path')"; what = "$($_.'Entry Location') $($_.Entry) $($_.'Launch String')"
            signer = "$($_.Signer)"; sha256 = "$($_.'SHA-256')"; modified = 0; owner = '' } | ConvertTo-Json -Compress
    }
}
foreach ($key in 'HKLM:\Software\Microsoft\Windows\CurrentVersion\Run', 'HKLM:\Software\Microsoft\Windows\CurrentVersion\RunOnce',
    'HKLM:\Software\WOW6432Node\Microsoft\Windows\CurrentVersion\Run', 'HKCU:\Software\Microsoft\Windows\CurrentVersion\Run') {
    $item = Get-Item -Path $key
    foreach ($name in $item.GetValueNames()) { Tell 'runkey' "$key\$name" $item.GetValue($name) }
}
Get-CimInstance Win32_Service | Where-Object { $_.StartMode -eq 'Auto' } | ForEach-Object { Tell 'service' $_.Name $_.PathName }
Get-ScheduledTask | Where-Object { $_.State -ne 'Disabled' -and $_.TaskPath -notlike '\Microsoft\*' } | ForEach-Object {
    Tell 'task' "$($_.TaskPath)$($_.TaskName)" (($_.Actions | ForEach-Object { "$($_.Execute) $($_.Arguments)" }) -join '; ')
}
Get-ChildItem "$env:ProgramData\Microsoft\Windows\Start Menu\Programs\StartUp", "$env:SystemDrive\Users\*\AppData\Roaming\Microsoft\Windows\Start Menu\Programs\Startup" -File |
    ForEach-Object { Tell 'startup' $_.FullName $_.Name }
'{"kind":"end"}'
