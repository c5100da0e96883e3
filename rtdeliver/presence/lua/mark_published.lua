-- Notes which changes are published, and removes members whose going offline is published. Comes
-- after `common.lua`.
--
-- ARGV[1]     prefix
-- ARGV[2...]  for each change: member, when it came or went
--
-- Returns 1.

for i = 2, #ARGV, 2 do
  local member, at = ARGV[i], tonumber(ARGV[i + 1])
  local entry = read(member)
  if entry and entry.before == at then
    entry.before = 0
    write(member, entry)
  elseif entry and entry.changed == at and entry.online then
    entry.before, entry.claimed = 0, 0
    write(member, entry)
  elseif entry and entry.changed == at then
    redis.call('DEL', key(member))
    redis.call('ZREM', members_key, member)
  end
end
return 1
