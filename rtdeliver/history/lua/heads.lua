-- Reads which events were stored last. `common.lua` runs before this.
--
-- ARGV[4...]  the topics
--
-- Returns {how many events were stored in all, the heads}: for each topic its epoch, number and time,
-- all after commas. The epoch is empty if nothing is known of the topic.

local heads = {}
for i = 4, #ARGV do
  local meta = read_meta(ARGV[i])
  heads[#heads + 1] = meta and meta.epoch or ''
  heads[#heads + 1] = text(meta and meta.number or 0)
  heads[#heads + 1] = text(meta and meta.at or 0)
end
return {text(store.count), table.concat(heads, ',')}
