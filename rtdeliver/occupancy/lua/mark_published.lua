-- Notes which changes are published. `common.lua` runs before this.
--
-- ARGV[3...]  for each change: the topic, and when it changed
--
-- Returns 1.

for i = 3, #ARGV, 2 do
  local topic, at = ARGV[i], tonumber(ARGV[i + 1])
  local entry = read(topic)
  if entry and entry.changed == at then
    entry.claimed = 0
    write(topic, entry)
    -- It may have changed again meanwhile.
    redis.call('ZADD', due_key, text(now), topic)
  end
end
return 1
